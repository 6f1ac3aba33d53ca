"""--explore: a page in which the model runs. Those marked `browser` open it in Chromium."""

import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY, SHARED_MNIST

import vae
from explorer.export import export_model
from explorer.page import HERE, MOST_BYTES, as_script

sys.path.insert(0, str(REPOSITORY / "tests/coding"))
from small_models import KINDS, build

MORE_KINDS = {
    "vae flow": ("vae", {"prior": "flow"}),
    "vae gaussian": ("vae", {"likelihood": "gaussian", "network": "resnet"}),
    "points": ("cvae", {"data_shape": (2,), "likelihood": "sigma", "num_classes": 3, "prior": "flow"}),
}
COMPUTE = """({spec, x, noise, label, uniform}) => {
  const model = new Model(spec), f = (values) => Float32Array.from(values);
  const {mean, logvar} = model.encode(f(x), label), z = model.fromNoise(f(noise), label);
  return {mean, logvar, z, back: model.toNoise(z, label), params: model.decoderOutput(f(noise), label),
          x: model.decode(f(noise), label, f(uniform)), prior: [model.logPrior(f(noise), label)],
          fit: model.window ? [] : [model.logLikelihood(f(x), model.decoderOutput(f(noise), label))]};
}"""


def computed(browser, model, bits: int, seed: int = 0) -> tuple[dict, dict]:
    """What engine.js and TensorFlow make of the same numbers."""
    rng, shape = np.random.default_rng(seed), tuple(model.arguments["data_shape"])
    x, noise = rng.integers(0, 2, shape).astype(np.float32), rng.normal(size=3).astype(np.float32)
    uniform = rng.uniform(1e-7, 1, shape).astype(np.float32)
    given = {"spec": export_model(model, "abc", bits=bits), "noise": noise.tolist(), "label": 1}
    given |= {"x": x.ravel().tolist(), "uniform": uniform.ravel().tolist()}
    page = browser.new_page()
    page.add_script_tag(content=(HERE / "engine.js").read_text() + "window.Model = Model;")
    found = page.evaluate(COMPUTE, given)
    page.close()
    labels = tf.one_hot([1], 3)
    condition = model.condition(labels) if model.is_conditional else None
    mean, logvar = model.encode(x[None], labels)
    params = model.likelihood_params(tf.constant(noise[None]), condition)
    if model.likelihood.has_mean:
        decoded = model.likelihood.mean(params)
    else:
        nothing = tf.zeros((1, *shape))
        decoded = model.likelihood.fill_in_order(nothing, tf.zeros_like(nothing, tf.bool), params, uniform[None])
    wanted = {"mean": mean, "logvar": logvar, "params": params, "x": decoded, "back": noise}
    wanted["prior"] = tf.reduce_sum(model.prior.log_prob(tf.constant(noise[None]), condition))
    is_discrete = model.likelihood.pixels and model.likelihood.has_mean
    wanted |= {"fit": model.likelihood.log_prob(x[None], params)} if is_discrete else {}
    wanted["z"] = model.prior.from_noise(tf.constant(noise[None]), condition)
    as_list = {name: list(value.values()) if isinstance(value, dict) else value for name, value in found.items()}
    return as_list, {name: np.ravel(value) for name, value in wanted.items()}


@pytest.mark.browser
@pytest.mark.parametrize("kind", [*KINDS, *MORE_KINDS])
def test_the_page_computes_what_tensorflow_does(browser, monkeypatch, kind):
    monkeypatch.setitem(KINDS, kind, (KINDS | MORE_KINDS)[kind])
    model = build(kind)
    for bits, far in ((32, 1e-5), (16, 1e-3)):
        found, wanted = computed(browser, model, bits)
        for name in wanted:
            if name == "x" and bits == 16 and not model.likelihood.has_mean:
                continue  # a draw near the edge of a level may fall on the other side
            atol = 2 * far if name == "z" else far  # through four steps of a flow
            atol = far * 100 if name in ("fit", "prior") else atol  # sums
            np.testing.assert_allclose(found[name], wanted[name], atol=atol, err_msg=f"{name}, {bits} bits")


@pytest.mark.browser
@pytest.mark.parametrize("activation", ["gelu", "leaky_relu", "relu", "elu"])
def test_every_activation(browser, monkeypatch, activation):
    monkeypatch.setitem(KINDS, "one", ("vae", {"activation": activation}))
    found, wanted = computed(browser, build("one"), 32)
    np.testing.assert_allclose(found["params"], wanted["params"], atol=1e-5)


def pixels(page, name: str) -> list[int]:
    return page.evaluate(
        "(name) => { const c = document.getElementById(name);"
        " return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) }",
        name,
    )


def explored(start, script, *flags) -> pathlib.Path:
    start(*flags)
    model = flags[flags.index("--model") + 1] if "--model" in flags else "vae"
    assert script("--explore", *flags[: 2 if "--model" in flags else 0]) == 0
    return pathlib.Path(f"outputs/{model}/mnist/explorer.html")


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1400])
def test_sliders_classes_and_the_plane_move_the_image(start, script, open_page, width, tmp_path):
    page = open_page(explored(start, script, "--model", "cvae"), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert len(page.screenshot(full_page=True)) > 20_000
    before = pixels(page, "image")
    slider = page.locator("#sliders input").first
    slider.focus()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    moved = pixels(page, "image")
    assert moved != before
    page.get_by_role("button", name="3", exact=True).click()
    page.wait_for_timeout(100)
    assert pixels(page, "image") != moved
    assert page.locator("#classes [aria-pressed=true]").inner_text() == "3"
    page.locator("#map").focus()
    code = page.evaluate("Array.from(state.z)")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("Array.from(state.z)") != code
    for name in ("Random code", "Reset", "Play"):
        before = page.evaluate("Array.from(state.z)"), pixels(page, "middle")
        page.get_by_role("button", name=name).press("Enter")
        page.wait_for_timeout(200)
        assert (page.evaluate("Array.from(state.z)"), pixels(page, "middle")) != before


@pytest.mark.browser
def test_a_window_draws_anew_and_in_order(start, script, open_page):
    flags = ("--model", "vlae", "--window", "3", "--network", "mlp", "--num_epochs", "1")
    page = open_page(explored(start, script, *flags))
    images = []
    for _ in range(6):
        page.get_by_role("button", name="Draw again").click()
        images.append(tuple(pixels(page, "image")))
    assert len(set(images)) > 1
    page.get_by_label("slowly").check()
    page.get_by_role("button", name="Draw again").click()
    page.wait_for_timeout(50)
    first = pixels(page, "image")
    turn = page.evaluate("state.drawing")
    page.wait_for_function(f"document.getElementById('image').dataset.turn === '{turn}'")
    last = pixels(page, "image")
    differing = [i for i in range(len(first)) if first[i] != last[i]]
    assert differing
    same = next(i for i in range(len(first)) if first[i] != last[i])
    assert first[:same] == last[:same], "what was drawn before stays"


@pytest.mark.browser
def test_points_have_their_page(script, open_page, tmp_path):
    assert script("--dataset", "moons", "--num_epochs", 1, "--hidden_dims", 8, "--model", "cvae", only=True) == 0
    assert script("--explore", "--dataset", "moons", "--model", "cvae", only=True) == 0
    page = open_page(pathlib.Path("outputs/cvae/moons/explorer.html"), 400)
    before = pixels(page, "image")
    page.get_by_role("button", name="Random code").click()
    page.wait_for_timeout(100)
    assert pixels(page, "image") != before
    assert page.locator("#pad").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("size", [1, 17])
def test_few_and_many_latents(script, open_page, size):
    assert script("--latent_size", size, "--num_epochs", 1) == 0
    assert script("--explore", "--latent_size", size) == 0
    page = open_page(pathlib.Path("outputs/vae/mnist/explorer.html"))
    assert page.locator("#plane").is_visible() == (size > 1)
    assert page.locator("#more").is_visible() == (size > 16)
    for share in (0.25, 0.5, 1):
        page.locator("#share").fill(str(share))
        page.wait_for_timeout(50)
    assert any(pixels(page, "middle"))


@pytest.mark.slow
def test_several_labels_at_a_time_are_refused(script, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 2, (40, 5, 5), dtype=np.uint8) * 255, rng.integers(0, 2, (40, 3), dtype=np.uint8)
    np.savez(tmp_path / "several.npz", images=images, labels=labels)
    flags = ["--dataset", "several.npz", "--is_cvae", "--run_name", "several"]
    assert script(*flags, "--num_epochs", 1, "--hidden_dims", 4, only=True) == 0
    assert script("--explore", *flags, only=True) == 1
    assert "--explore needs one class for each example" in capsys.readouterr().err


SEVEN = [(0.28, 0.25), (0.7, 0.25), (0.45, 0.8)]


@pytest.mark.browser
@pytest.mark.skipif(not SHARED_MNIST.exists(), reason="needs the real MNIST")
@pytest.mark.parametrize("model", ["cvae", "vlae"])
def test_a_drawn_seven_comes_back_as_one(script, open_page, model):
    from sklearn.neighbors import KNeighborsClassifier

    from data import load_dataset

    checkpoint = REPOSITORY / f"pretrained/{model}_mnist.weights.h5"
    assert script("--explore", "--checkpoint", checkpoint, "--data_dir", SHARED_MNIST, "--to", "x.html", only=True) == 0
    assert pathlib.Path("x.html").stat().st_size <= 3_000_000
    page = open_page(pathlib.Path("x.html"))
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    page.wait_for_function("document.getElementById('redrawn').dataset.x")
    redrawn = np.array(json.loads(page.evaluate("document.getElementById('redrawn').dataset.x")))
    sample = load_dataset("mnist_sample").train
    judge = KNeighborsClassifier(5).fit(sample.x.reshape(len(sample), -1), sample.labels.argmax(axis=1))
    assert judge.predict(redrawn.reshape(1, -1)).tolist() == [7]
    assert page.locator("#redrawn-caption").inner_text() == "encoded and decoded, as 7"


def test_the_page_is_one_file(start, script, tmp_path, idx_folder):
    text = explored(start, script, "--model", "cvae").read_text("utf-8")
    assert "://" not in text
    assert "src=" not in text
    for private in (str(tmp_path), str(idx_folder), str(pathlib.Path.home()) + "/"):
        assert private not in text
    assert script("--explore", "--model", "cvae", "--to", "elsewhere/a.html") == 0
    assert pathlib.Path("elsewhere/a.html").read_text("utf-8") == text


def test_large_models_get_eight_bits(tmp_path):
    model = vae.build_model("vae", data_shape=(28, 28, 1), hidden_dims=(30,))
    sizes = {bits: len(export_model(model, [], bits=bits)["weights"]["floats"]) for bits in (32, 16, 8)}
    assert sizes[32] > 1.9 * sizes[16] > 10 * sizes[8]
    assert MOST_BYTES < 3_000_000
    spec = export_model(model, [], bits=8)
    kernel = spec["decoder"]["layers"][0]["kernel"]
    assert kernel["bytes"][1] == 15 * 30
    assert kernel["scales"][1] == 30


def test_a_layer_without_a_counterpart_is_refused():
    import keras

    from explorer.export import Weights, layers_of

    with pytest.raises(TypeError, match=r"engine\.js has no layer for Dropout"):
        layers_of(keras.layers.Dropout(0.1), Weights(16))


def test_nothing_ends_the_script():
    text = as_script({"name": "</script><script>alert('&')</script>\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": "</script><script>alert('&')</script>\u2028"}
