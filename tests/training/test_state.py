import json

from training.state import TrainingState


def test_a_header_keeps_the_state_exactly():
    state = TrainingState([{"epoch": 1, "train_loss": 0.1}], 1, 7, {"loss": [1 / 3, 3.0]}, 0.3, 224)
    state.note_settings(1, {"learning_rate": 1e-3})
    stored = json.loads(json.dumps({"model": {}, **state.to_header()}))
    assert TrainingState.from_header(stored) == state


def test_older_headers_lack_what_was_not_stored_then():
    stored = {"history": [{"epoch": 1}], "epoch": 1, "train_seconds": 2.5, "train_images": 60, "config": {}}
    state = TrainingState.from_header(stored)
    assert (state.epoch, state.train_seconds, state.train_images) == (1, 2.5, 60)
    assert (state.step, state.running, state.settings) == (0, {}, [])
    assert TrainingState.from_header({}) == TrainingState()


def test_settings_are_noted_where_they_change():
    state = TrainingState()
    state.note_settings(1, {"learning_rate": 1e-3, "seed": 0})
    state.note_settings(3, {"learning_rate": 1e-3, "seed": 0})
    state.note_settings(4, {"learning_rate": 1e-4, "seed": 0})
    assert state.settings == [
        {"from_epoch": 1, "learning_rate": 1e-3, "seed": 0},
        {"from_epoch": 4, "learning_rate": 1e-4, "seed": 0},
    ]


def test_an_epochs_end_is_the_next_ones_start():
    state = TrainingState(step=6, running={"loss": [1.0, 2.0]})
    state.end_epoch({"epoch": 1, "train_loss": 0.5})
    assert state == TrainingState(history=[{"epoch": 1, "train_loss": 0.5}], epoch=1)
