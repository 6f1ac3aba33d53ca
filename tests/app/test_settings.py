"""The one table of settings: what is made from it, its defaults, and the rules between settings."""

import itertools
import json

import numpy as np
import pytest
from conftest import REPOSITORY

from app import flags, rules, settings
from app.run import HEADER, defaults_for
from app.settings import ROWS, Computed, Settings, as_setting, as_stored, names, stored_type
from data import Dataset
from parts import catalogue
from sources.examples import Examples


def dataset(kind, num=100):
    """Random data of a kind, two classes."""
    rng = np.random.default_rng(0)
    channels = 3 if kind == "colour" else 1
    x = rng.integers(0, 256, (num, 4, 4, channels), dtype=np.uint8)
    if kind == "points":
        x = rng.normal(size=(num, 2)).astype(np.float32)
    elif kind == "drawings":
        x = (x // 128) * 255
    examples = Examples(x.astype(np.float32 if kind == "points" else np.uint8), np.zeros((num, 2), np.uint8))
    return Dataset("data", "nowhere", examples, examples[:10], ("a", "b"))


def test_the_page_of_flags_is_that_of_the_table():
    """`python -m app.flags > docs/flags.md` writes it."""
    assert (REPOSITORY / "docs/flags.md").read_text() == flags.page()


def test_every_setting_is_a_flag_with_help_and_every_flag_a_setting():
    found = {action.dest for action in flags.build_parser()._actions} - {"help", *flags.SHORT_FORMS}
    assert found == {*ROWS}
    assert all(row.help for row in ROWS.values())


def test_conditions_of_defaults_are_made_of_known_words():
    known = {*catalogue.MODELS, *catalogue.NETWORKS, "points", "images", "drawings", "photographs", "colour"}
    known |= {"few", "many", "binary", "levels"}
    for name, row in ROWS.items():
        for condition in row.by:
            assert {*condition.split()} <= known, (name, condition)


def test_every_choice_has_its_class_with_the_same_properties():
    import vae
    from parts.augmentation import AUGMENTATIONS
    from parts.likelihoods import LIKELIHOODS
    from parts.networks import NETWORKS
    from parts.priors import PRIORS

    assert NETWORKS.keys() == catalogue.NETWORKS.keys()
    assert PRIORS.keys() == {*catalogue.PRIORS}
    assert {*AUGMENTATIONS, "adversarial"} == {*catalogue.AUGMENTATIONS}
    for name, entry in catalogue.LIKELIHOODS.items():
        assert LIKELIHOODS[name].__name__ == entry.class_name
        assert LIKELIHOODS[name].pixels == entry.pixels
    for name in catalogue.MODELS:
        for prior, num_classes in itertools.product(
            catalogue.PRIORS, [2] if catalogue.MODELS[name].labels == "always" else [0, 2]
        ):
            if catalogue.MODELS[name].takes_features and prior == "standard":
                continue
            arguments = {"model": name, "data_shape": (4, 4, 1), "num_classes": num_classes, "prior": prior}
            built = vae.build_model(**arguments, hidden_dims=(4,))
            assert built.bound_on == catalogue.bound_on(arguments), (name, prior, num_classes)


@pytest.mark.parametrize(
    ("kind", "num", "given", "expected"),
    [
        ("drawings", 12_000, {}, {"learning_rate": 2e-3, "likelihood": "bernoulli", "latent_size": 15}),
        ("drawings", 12_000, {}, {"network": "mlp", "hidden_dims": (400, 400), "batch_size": 128, "num_epochs": 10}),
        ("drawings", 12_000, {"network": "resnet"}, {"hidden_dims": (32, 64), "learning_rate": 2e-3}),
        ("photographs", 12_000, {}, {"learning_rate": 1e-3, "likelihood": "sigma", "binarize": "none"}),
        ("photographs", 12_000, {"binarize": "dynamic"}, {"likelihood": "bernoulli"}),
        ("colour", 12_000, {}, {"network": "conv", "likelihood": "sigma", "latent_size": 64, "num_epochs": 20}),
        ("colour", 12_000, {"model": "vlae"}, {"likelihood": "logistic", "latent_size": 64, "num_epochs": 30}),
        ("colour", 12_000, {}, {"prior": "standard", "flip": False}),
        ("colour", 1_600, {}, {"prior": "flow", "flip": True, "num_epochs": 40}),
        ("colour", 1_600, {"model": "vlae"}, {"prior": "flow", "flip": True, "num_epochs": 30}),
        ("photographs", 1_600, {}, {"prior": "flow", "flip": False, "num_epochs": 30}),
        ("drawings", 4_000, {}, {"prior": "standard", "flip": False}),
        ("drawings", 4_000, {}, {"batch_size": 32, "num_epochs": 12, "sample_and_save_frequency": 5}),
        ("drawings", 4_000, {"batch_size": 8}, {"num_epochs": 10, "learning_rate": 1e-3}),
        ("drawings", 20, {}, {"batch_size": 20, "num_epochs": 100, "sample_and_save_frequency": 20}),
        ("drawings", 4_000, {"model": "vlae"}, {"num_epochs": 30, "sample_and_save_frequency": 1, "batch_size": 32}),
        ("drawings", 12_000, {"model": "vlae"}, {"binarize": "dynamic", "likelihood": "bernoulli", "window": 11}),
        ("drawings", 12_000, {"model": "vlae"}, {"latent_size": 12, "prior": "mixture", "warmup_epochs": 2}),
        ("drawings", 12_000, {"model": "vlae", "binarize": "none"}, {"likelihood": "logistic", "binarize": "none"}),
        ("drawings", 12_000, {"model": "vlae", "likelihood": "logistic"}, {"binarize": "none"}),
        ("points", 12_000, {}, {"likelihood": "sigma", "hidden_dims": (128, 128, 128), "latent_size": 2}),
        ("points", 100, {"model": "vlae"}, {"batch_size": 100, "window": 0, "prior": "flow", "num_epochs": 50}),
        ("points", 12_000, {"latent_size": 3}, {"latent_size": 3, "num_samples": 1000}),
        ("points", 12_000, {"model": "m2"}, {"classifier": "mlp", "prior": "mixture", "augmentation": "adversarial"}),
        ("points", 12_000, {"model": "m2"}, {"consistency": 1.0}),
        ("points", 12_000, {"model": "vae"}, {"consistency": 0.0}),
        ("drawings", 12_000, {"model": "m2"}, {"classifier": "conv", "prior": "mixture", "augmentation": "erase"}),
    ],
)
def test_defaults_follow_model_data_and_what_was_asked_for(kind, num, given, expected):
    found = defaults_for(given, dataset(kind, num))
    assert {name: found[name] for name in expected} == expected
    assert {name: found[name] for name in given} == given


def test_defaults_of_any_data_and_model_contradict_nothing():
    for kind in ("drawings", "photographs", "colour", "points"):
        for model in catalogue.MODELS:
            data = dataset(kind)
            assert rules.contradiction(defaults_for({"model": model}, data), data.kind(), data.name, {}) is None


BROKEN = [  # settings, the kind of data if it matters, and the beginning of the sentence
    ({"likelihood": "sigma", "window": 7}, "", "--likelihood sigma has no window"),
    ({"likelihood": "sigma", "binarize": "dynamic"}, "", "--likelihood sigma is for grey levels"),
    ({"warmup_epochs": 2, "beta": 0}, "", "--warmup_epochs contradicts --beta 0"),
    ({"free_bits": 1, "beta": 0}, "", "--free_bits contradicts --beta 0"),
    ({"augmentation": "shift", "consistency": 0.0}, "", "--augmentation contradicts --consistency 0"),
    ({"labels": (3,), "model": "vlae", "prior": "standard"}, "", "--labels contradicts --prior standard"),
    ({"labels": (3,), "unconditional": True}, "", "--labels contradicts --unconditional"),
    ({"model": "m1m2", "prior": "standard"}, "", "--model m1m2 contradicts --prior standard"),
    ({"label_seed": 1, "num_labels": None}, "", "--label_seed goes with --num_labels"),
    ({"levels": 2.0, "lossy": False}, "", "--levels goes with --lossy"),
    ({"append": True, "lossy": True}, "", "--append is for images without loss"),
    ({"append": True, "to": None}, "", "--append needs --to"),
    ({"num_replicas": 2, "strategy": "none"}, "", "--num_replicas goes with --strategy mirrored"),
    ({"num_replicas": 2, "batch_size": 3}, "", "--batch_size 3 cannot be shared by 2 replicas"),
    ({"device": "gpu:1", "strategy": "mirrored"}, "", "--device gpu:1 contradicts --strategy mirrored"),
    ({"window": 7}, "points", "--window 7 is for images, and toys are points"),
    ({"binarize": "dynamic"}, "points", "--binarize dynamic is for images, and toys are points"),
    ({"classifier": "conv"}, "points", "--classifier conv is for images"),
    ({"augmentation": "shift", "consistency": 1.0}, "points", "--augmentation shift changes images, and toys are"),
    ({"flip": True}, "points", "--flip is for images, and toys are points"),
    ({"likelihood": "bernoulli"}, "points", "--likelihood bernoulli is for pixels"),
    ({"network": "conv"}, "points", "--network conv is for images"),
    ({"likelihood": "bernoulli", "window": 7, "binarize": "none"}, "drawings", "--likelihood bernoulli with a window"),
]


@pytest.mark.parametrize(("broken", "kind", "sentence"), BROKEN)
def test_a_contradiction_is_told_in_its_sentence(broken, kind, sentence):
    assert rules.contradiction(broken, kind, "toys").startswith(sentence)


def test_every_rule_has_its_example():
    assert len(BROKEN) == len(rules.RULES) + 1


def test_a_rule_waits_until_all_of_its_settings_are_known():
    assert rules.contradiction({"window": 7}) is None
    assert rules.contradiction({"warmup_epochs": 2}) is None


def test_a_new_density_is_refused_on_binary_pixels_and_under_a_window(monkeypatch):
    """It needs a class and a row, and no rule of its own."""
    monkeypatch.setitem(catalogue.LIKELIHOODS, "laplace", catalogue.LikelihoodEntry("Laplace"))
    assert "binary pixels need bernoulli" in rules.contradiction({"likelihood": "laplace", "binarize": "dynamic"})
    assert "has no window" in rules.contradiction({"likelihood": "laplace", "window": 7})
    assert rules.contradiction({"likelihood": "laplace", "network": "mlp"}, "points") is None


def test_settings_survive_a_checkpoints_header():
    values = Settings(hidden_dims=(3, 4), image_size=(5, 6), labels=(1,))
    for name in names(kept=True):
        stored = json.loads(json.dumps(as_stored(getattr(values, name))))
        assert isinstance(stored, stored_type(name)), name
        assert as_setting(stored) == getattr(values, name)


def test_a_header_is_checked_for_every_setting_that_is_kept_from_the_first_version_on():
    assert HEADER["config"].keys() == {*names(kept=True, added_later=False)}
    assert {*names(builds_model=True)} <= {*names(fixed=True)}


def test_computed_defaults_are_described():
    for row in ROWS.values():
        assert all(value.text for value in row.by.values() if isinstance(value, Computed))
        assert not (row.models != tuple(catalogue.MODELS) and not row.models)


def test_what_one_verb_ignores_and_another_refuses():
    assert rules.ignored({"learning_rate": 1, "seed": 2, "labels": (3,)}, {"evaluate"}) == ["learning_rate", "labels"]
    assert rules.ignored({"learning_rate": 1, "labels": (3,)}, {"train", "evaluate"}) == []
    for flag in ("tensorboard", "strategy"):
        assert "goes with training, not with --evaluate" in rules.refuse_flags({"evaluate": True, flag: True})
    assert settings.ROWS["tensorboard"].strict


@pytest.mark.parametrize(
    "given", [{"model": "cvae", "labels": (1,), "prior": "standard"}, {"model": "vlae", "beta": 0.0}]
)
def test_a_rule_refuses_neither_what_reaches_another_part_nor_what_was_left_to_defaults(given):
    """The label reaches a CVAE's decoder too; a VLAE has two epochs of warm-up by default."""
    data = dataset("drawings")
    assert rules.refuse_flags(given) is None
    assert rules.contradiction(defaults_for(given, data), data.kind(), data.name, {}) is None
