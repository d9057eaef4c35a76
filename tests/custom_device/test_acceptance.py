"""The kit on a device that is not the CPU: both sides compute on their own device, and updates are rolled back."""

import json

CODE = """
import json, sys
from pathlib import Path
from ppdet.utils.process.paddle_setup import load_paddle
load_paddle(announce=False)
import paddle, pytest
from broken import change, detecting_context, run, short_context
from pretend import library
from ppdet.acceptance import cpu_comparison, small_detector
from ppdet.acceptance.device_probe import find_facts
from ppdet.engine.training.guard import StepGuard

facts = find_facts("auto")
places = set()
with pytest.MonkeyPatch.context() as patch:
    context = short_context(patch, facts, Path(sys.argv[1]))

    def wrap(right):
        def watched(layer, rng):
            right(layer, rng)
            places.update(str(p.place) for p in layer.parameters())
        return watched

    change(patch, cpu_comparison, "fill_weights", wrap)
    from ppdet.acceptance.checks import operators_checks
    patch.setattr(operators_checks, "fill_weights", cpu_comparison.fill_weights)
    results = [run(name, context) for name in ("nms/boxes_5", "operators/group_norm", "guard/nan_image_momentum")]
    change(patch, StepGuard, "update", lambda right: lambda self, *_: self.optimizer.step())
    results.append(run("guard/nan_image_momentum", context))
    detecting = detecting_context(patch, facts, context.folder("detecting"))
    results.append(run("detect/export", detecting))
    library().pretend_copies_to_host()
    small_detector.reference_ap(detecting)
    copies = [library().pretend_copies_to_host()]
    results.append(run("engines/paddle_fp32", detecting))
    copies.append(library().pretend_copies_to_host())
found = [facts.device, facts.cards, sorted(places), [(r.status, r.detail) for r in results], copies]
(context.work / "found.json").write_text(json.dumps(found))
"""


def test_checks_pass_on_it_and_see_an_update_that_is_not_taken_back(pretend, tmp_path):
    """The engine computes on the device, which copies to the host show; its AP is compared with that of the CPU."""
    pretend.run(CODE, tmp_path)
    device, cards, places, results, copies = json.loads((tmp_path / "found.json").read_text())
    assert (device, cards, places) == ("pretend", 2, ["Place(cpu)", "Place(pretend:0)"])
    assert [status for status, _ in results] == ["pass", "pass", "pass", "fail", "pass", "pass"], results
    assert results[3][1].startswith("the spoiled step 0 changed "), results
    assert results[5][1].endswith("difference 0.00 (limit 0.1)") and copies[0] == 0 < copies[1], (results, copies)
