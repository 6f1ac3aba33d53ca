"""A stack of binary decisions: asymmetric numeral systems (Duda 2013) over 32-bit words."""

import hashlib

import constriction
import numpy as np

from coding.exact import CodingError

PROBABILITY_FRACTION = 24  # bits behind the point of probabilities
DECISION = constriction.stream.model.Bernoulli(perfect=False)
FIRST_WORDS = 4096  # known words at the bottom


class Stack:
    """What is pushed last is popped first. A pushed decision of probability p costs -log2 p bits, and one that is
    popped gives these bits back.

    At the bottom lie words that are known beforehand, so that one can pop before anything was pushed. Of these only
    those that were changed are among the `words` of a file.
    """

    def __init__(self, words: np.ndarray | None = None, num_untouched: int = FIRST_WORDS):
        words = np.zeros(0, np.uint32) if words is None else words
        self.lowest = num_untouched  # words that were never popped
        self.coder = constriction.stream.stack.AnsCoder(np.concatenate([first_words()[:num_untouched], words]))

    def push(self, decisions: np.ndarray, probabilities: np.ndarray) -> None:
        """Push decisions, 0 or 1, with the probabilities of 1 as multiples of 2^-24. The last is pushed first, so that
        they are popped in the order of the array."""
        chances = probabilities.reshape(-1) / 2.0**PROBABILITY_FRACTION
        self.coder.encode_reverse(decisions.reshape(-1).astype(np.int32), DECISION, chances)

    def pop(self, probabilities: np.ndarray) -> np.ndarray:
        """Decisions with these probabilities of 1: int32, of the same shape.

        Raises:
            CodingError: if the stack runs empty, as it can for damaged data only.
        """
        chances = probabilities.reshape(-1) / 2.0**PROBABILITY_FRACTION
        decisions = self.coder.decode(DECISION, chances).reshape(probabilities.shape)
        self.lowest = min(self.lowest, self.coder.num_words())
        if self.lowest <= 2:  # the state alone: the coder would go on with zeros
            raise CodingError("the data end too early")
        return decisions

    @property
    def num_free_bits(self) -> int:
        """Bits that can be popped without changing more of the known words."""
        return 32 * (self.coder.num_words() - self.lowest)

    def changed(self) -> tuple[np.ndarray, int]:
        """The words above the untouched ones at the bottom, and the number of these."""
        words, first = self.coder.get_compressed(), first_words()
        num = min(len(words) - 1, len(first))
        differing = np.flatnonzero(words[:num] != first[:num])
        num_untouched = int(differing[0]) if len(differing) else num
        return words[num_untouched:], num_untouched

    def is_at_start(self) -> bool:
        return np.array_equal(self.coder.get_compressed(), first_words())


def first_words() -> np.ndarray:
    """Words without a pattern: SHA-256 of 0, 1, ... as four bytes, in little-endian words. The top one is 1."""
    blocks = [hashlib.sha256(number.to_bytes(4, "little")).digest() for number in range(FIRST_WORDS // 8)]
    words = np.frombuffer(b"".join(blocks), "<u4").astype(np.uint32)
    words[-1] = 1
    return words
