"""Requests to end a run."""

import os
import signal

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_verified
from ppdet.engine.runs import run_folder
from ppdet.engine.trainer import Trainer
from ppdet.utils.process import stop
from ppdet.utils.process.stop import Stopped, StopRequests


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_request_waits_for_the_step_and_the_second_does_not(number, code, monkeypatch, capfd):
    monkeypatch.setattr(stop, "REPEAT_SECONDS", 0.0)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, StopRequests("finishing the step") as requests:
        requests.can_wait = True
        os.kill(os.getpid(), number)
        assert requests.received == number
        os.kill(os.getpid(), number)
        pytest.fail("the second request was not taken")
    assert caught.value.code == code
    assert signal.getsignal(number) is before
    assert f"{number.name}: finishing the step" in capfd.readouterr().err


def test_what_a_launcher_passes_on_is_not_impatience():
    with StopRequests("finishing the step") as requests:
        requests.can_wait = True
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.received == signal.SIGINT


def test_with_nothing_to_save_the_first_request_ends_at_once():
    with pytest.raises(Stopped), StopRequests("finishing the step"):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the request was not taken")


def test_a_request_while_an_epoch_is_saved_waits_for_it(tiny, tmp_path, monkeypatch):
    write = run_folder.save_weights

    def interrupted(*arguments, **options):
        if not requests:
            requests.append(os.kill(os.getpid(), signal.SIGTERM))
        write(*arguments, **options)

    requests = []
    monkeypatch.setattr(run_folder, "save_weights", interrupted)
    trainer = Trainer(load_config(str(tiny)), evaluate=True)
    with pytest.raises(Stopped) as caught:
        trainer.train()
    assert caught.value.code == 143
    state = read_verified(tmp_path / "output" / "tiny" / "0").state
    assert (state.epoch, state.evaluated, state.history) == (1, False, [])
    again = Trainer(load_config(str(tiny)), evaluate=True, resume="auto")
    again.train()
    assert [epoch for epoch, _ in again.history] == [1, 2]
