"""Jobs through Ray write what Detector returns, each image exactly once, even if workers die."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from batch_runs import corners
from pyarrow import parquet
from pycocotools.coco import COCO

from ppdet.deploy.batch import BatchJob, run_batch
from ppdet.deploy.batch.storage import Folder
from ppdet.deploy.detector import Detector
from ppdet.utils.errors import DataError, DeployError


def rows_of(folder):
    """All rows of a job's tables, in the order of the files."""
    return [row for path in sorted((folder / "detections").iterdir()) for row in parquet.read_table(path).to_pylist()]


def assert_same(row, expected, threshold=0.0):
    keep = expected.scores >= threshold
    assert row["error"] is None and len(row["scores"]) == keep.sum()
    np.testing.assert_allclose(row["scores"], expected.scores[keep], atol=1e-4)
    np.testing.assert_allclose(corners(row), expected.boxes[keep], atol=0.05)
    assert row["classes"] == expected.classes[keep].tolist()
    assert row["names"] == [("red", "blue")[label] for label in row["classes"]]
    assert row["category_ids"] == [(3, 7)[label] for label in row["classes"]]


def test_a_folder(done, images, tmp_path, log):
    output, summary = tmp_path / "out", done.summary
    shutil.copytree(done.job.output, output)
    job = replace(done.job, output=str(output))
    assert summary.counts.images == summary.done_now == len(images.names) == 28 and summary.counts.errors == 2
    rows = rows_of(output)
    assert [row["image_id"] for row in rows] == list(range(28))
    assert [row["file_name"] for row in rows] == images.names
    for row in rows:
        assert row["path"] == str(Path(job.input) / row["file_name"])
        if row["file_name"] in images.broken:
            assert row["error"] in ("the file is empty", "the file is truncated")
            assert row["width"] is None and row["boxes"] == []
        else:
            assert_same(row, images.expected[row["file_name"]], 0.5)
            number = int(row["file_name"][-7:-4])
            assert (row["width"], row["height"]) == (70, 40 + number)
    assert summary.counts.boxes == sum((found.scores >= 0.5).sum() for found in images.expected.values()) > 26

    names = [path.name for path in sorted((output / "coco").iterdir())]
    assert names == [f"part-0000{i}-of-00003.json" for i in range(3)]
    found = 0
    for path in sorted((output / "coco").iterdir()):
        coco = COCO(str(path))
        assert [c["name"] for c in coco.loadCats([3, 7])] == ["red", "blue"]
        results = coco.loadRes(json.loads(path.read_text())["annotations"])
        for image in coco.loadImgs(coco.getImgIds()):
            expected = images.expected[image["file_name"]].above(0.5)
            entries = results.loadAnns(results.getAnnIds(imgIds=image["id"]))
            entries.sort(key=lambda entry: entry["id"])
            assert [entry["category_id"] for entry in entries] == [(3, 7)[label] for label in expected.classes]
            corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in entries)]
            np.testing.assert_allclose(corners, expected.boxes, atol=0.05)
            np.testing.assert_allclose([entry["score"] for entry in entries], expected.scores, atol=1e-4)
            found += 1
    assert found == 26

    # The same again: nothing to do, without Ray. Then with a part lost, and rubbish of a killed process.
    assert run_batch(job)[:2] == (summary.counts, 0)
    parts = sorted((output / "detections").iterdir())
    kept = [path.stat().st_mtime_ns for path in parts]
    parts[1].write_bytes(parts[1].read_bytes()[:1000])
    (output / "detections" / ".part-00001-of-00003.parquet.x.tmp").write_bytes(b"torn")
    again = run_batch(job)
    assert again.counts == summary.counts and again.done_now == 10 and again.speed is None
    told = [record.getMessage() for record in log.records][-8:]
    assert told[:4] == [
        f"listing the images of {job.input}",
        "loading the model",
        "going on: 18 of 28 images are done",
        "10 images, 2 workers of 1 thread, backend onnxruntime; a worker loads the model first",
    ]
    assert told[4].endswith("cut.png: the file is truncated")
    assert told[5].startswith(f"done: 28 images, 2 errors, {summary.counts.boxes} boxes; 10 of them in ")
    assert told[5].endswith(" s") and told[7] == f"tables: {output}/detections; COCO: {output}/coco"
    assert sorted((output / "detections").iterdir()) == parts
    assert [path.stat().st_mtime_ns == time for path, time in zip(parts, kept)] == [True, False, True]
    assert [row["file_name"] for row in rows_of(output)] == images.names

    others = [
        ({"threshold": 0.0}, r"belongs to a job with another --threshold \(0.5 there, 0.0 now\)"),
        ({"shard_size": 11}, "another --shard_size"),
        ({"backend": "paddle"}, "another --backend"),
        ({"input": str(Path(job.input) / "below")}, "other images"),
    ]
    for change, message in others:
        with pytest.raises(DataError, match=message):
            run_batch(BatchJob(**{**vars(job), **change}))
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["finished"] == {"images": 28, "errors": 2, "boxes": summary.counts.boxes}
    (output / "manifest.json").write_text(json.dumps({**manifest, "model": "0"}))
    with pytest.raises(DataError, match="another model"):
        run_batch(job)
    (output / "manifest.json").write_text(json.dumps({**manifest, "table_version": 3}))
    with pytest.raises(DataError, match=r"with tables of another version \(3 there, 2 now\): name another --output"):
        run_batch(job)
    del manifest["table_version"]  # of a job before tables had versions; it is complete, or not
    for finished in (manifest["finished"], None):
        (output / "manifest.json").write_text(json.dumps({**manifest, "finished": finished}))
        with pytest.raises(DataError, match=r"belongs to a job with tables of another version \(1 there, 2 now\)"):
            run_batch(job)
    (output / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"detections but no manifest.json"):
        run_batch(job)


def test_bytes_from_parquet_to_object_storage(local_ray, model, images, tmp_path, log):
    encoded = [(images.folder / name).read_bytes() for name in images.names]
    parquet.write_table(pa.table({"data": encoded, "key": images.names}), tmp_path / "t.parquet", row_group_size=5)
    output = "memory://bucket/out"
    job = BatchJob(
        str(model), f"file://{tmp_path}/t.parquet", output, bytes_column="data", name_column="key", workers=1,
        shard_size=12, threshold=0.52, batch_size=4, backend="paddle",
    )  # fmt: skip
    summary = run_batch(job)
    done = [record.getMessage() for record in log.records if record.getMessage().startswith("done: ")]
    assert len(done) == 1
    assert re.fullmatch(rf"done: 28 images, 2 errors, {summary.counts.boxes} boxes in \d+\.\d s.*", done[0]), done
    folder = Folder(output)
    rows = []
    for name in sorted(folder.names("detections")):
        with folder.open(f"detections/{name}") as stream:
            rows += parquet.read_table(stream).to_pylist()
    assert [row["file_name"] for row in rows] == images.names and len(folder.names("coco")) == 3
    kept, detector = 0, Detector(model, "paddle", threads=1)
    for shard in (rows[:12], rows[12:24], rows[24:]):
        readable = [row for row in shard if row["file_name"] not in images.broken]
        assert all(row["error"] for row in shard if row not in readable)
        # Images are padded to the largest one of their batch: only the same batches give the same.
        for batch in (readable[i : i + 4] for i in range(0, len(readable), 4)):
            for row, expected in zip(batch, detector.predict([str(images.folder / r["file_name"]) for r in batch])):
                assert_same(row, expected, 0.52)
                kept += len(row["scores"])
    assert 0 < kept == summary.counts.boxes < sum(map(len, images.expected.values()))
    assert run_batch(job)[:2] == (summary.counts, 0)


def test_a_gpu_that_is_not_there_is_the_reason(local_ray, model, images, tmp_path):
    """And not the number of workers, which was named."""
    if local_ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    job = BatchJob(str(model), str(images.folder / images.names[0]), str(tmp_path / "out"), workers=1)
    with pytest.raises(DeployError, match=r"^--device gpu: Ray finds no GPU"):
        run_batch(replace(job, device="gpu"))
    with pytest.raises(DeployError, match="room for 0 workers with 500 CPUs each, not for 1: lower --workers"):
        run_batch(replace(job, cpu_threads=500))


def test_an_image_that_kills_its_worker_or_never_ends_is_a_row_with_an_error(local_ray, model, images, tmp_path, log):
    lines = [str(images.folder / name) for name in images.expected]
    for name in ("endless.png", "deadly.png"):
        lines.insert(7, str(tmp_path / name))
        (tmp_path / name).write_bytes((images.folder / images.names[0]).read_bytes())
    (tmp_path / "list.txt").write_text("\n".join(lines))
    job = BatchJob(
        str(model), str(tmp_path / "list.txt"), str(tmp_path / "out"), workers=2, backend="onnxruntime",
        image_timeout_s=4,
    )  # fmt: skip
    summary = run_batch(job)
    rows = rows_of(tmp_path / "out")
    assert [row["path"] for row in rows] == lines
    assert {row["path"]: row["error"] for row in rows if row["error"]} == {
        lines[7]: "2 workers died on it",
        lines[8]: "2 workers had no result after 4 s (--image_timeout_s)",
    }
    assert summary.counts.errors == 2 and "images of that task one at a time" in log.text
    assert log.text.count("a worker died") >= 6
    for row, expected in zip(rows[:7] + rows[9:], images.expected.values()):
        assert_same(row, expected)
