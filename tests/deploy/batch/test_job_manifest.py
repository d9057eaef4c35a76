"""A job is identified by the files of its model and its settings."""

import json
import os
from dataclasses import replace

import pytest

from ppdet.deploy.batch.inputs import EncodedImages, ImagePaths
from ppdet.deploy.batch.job import BatchJob, threshold_of
from ppdet.deploy.batch.job_manifest import IDENTITY, Manifest, model_fingerprint, read_manifest, require_same_job
from ppdet.deploy.batch.shards import Counts
from ppdet.deploy.batch.storage import Folder
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import DataError

EXPORT = {
    "infer_cfg.yml": b"label_list: [red]",
    **{name: name.encode() for name in ("model.json", "model.pdmodel", "model.pdiparams", "model.onnx")},
    **{name: name.encode() for name in ("model.xml", "model.bin", "model_fp16.onnx", "model_fp16.xml")},
}
JOB = {
    "model": "f00d",
    "model_dir": "m",
    "input": "i",
    "images": 3,
    "images_sha256": "beef",
    "image_root": None,
    "backend": "paddle",
    "precision": "fp32",
    "threshold": 0.25,
    "shard_size": 2,
    "shards": 2,
    "classes": ["red"],
    "category_ids": [3],
    "table_version": 2,
    "tta": None,
    "slicing": None,
}
OTHERS = {
    "table_version": 1,
    "model": "0",
    "images_sha256": "0",
    "backend": "onnxruntime",
    "precision": "bf16",
    "threshold": 0.5,
    "shard_size": 3,
    "tta": str(TTA()),
    "slicing": str(Slicing()),
}


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)


def test_passwords_are_not_written(tmp_path):
    url = "ftp://me:secret@host/images?token=secret"
    Manifest(**{**JOB, "input": url, "image_root": url}).write(Folder(str(tmp_path)))
    found = read_manifest(Folder(str(tmp_path)))
    assert found.input == found.image_root == "ftp://***@host/images?***"
    require_same_job(Folder(str(tmp_path)), found, {key: JOB[key] for key in IDENTITY})


@pytest.mark.parametrize("name", EXPORT)
def test_every_file_of_an_export_counts(tmp_path, name):
    """Weights too: a model that was trained on has the same graph and the same settings."""
    model = write(tmp_path / "model", EXPORT)
    print_ = model_fingerprint(model)
    assert print_ == model_fingerprint(write(tmp_path / "copy", EXPORT)) and len(print_) == 64
    (tmp_path / "model" / name).write_bytes(EXPORT[name][:-1] + b"?")
    assert model_fingerprint(model) != print_
    (tmp_path / "model" / name).unlink()
    assert model_fingerprint(model) != print_


def test_the_end_of_a_large_file_counts(tmp_path):
    content = bytearray((2 << 20) + 5)
    model = write(tmp_path / "model", {"model.pdiparams": bytes(content)})
    before = model_fingerprint(model)
    content[-1] = 1
    assert model_fingerprint(write(tmp_path / "model", {"model.pdiparams": bytes(content)})) != before


def test_a_file_that_is_no_model_is_not_read(tmp_path):
    model = write(tmp_path / "model", EXPORT)
    with open(tmp_path / "model" / "model.bin", "wb") as stream:
        stream.truncate(2**40)  # without content on the disk
    with pytest.raises(DataError, match=r"model\.bin: larger than 16 GiB"):
        model_fingerprint(model)


def test_names_of_files_count_and_others_do_not(tmp_path):
    model = write(tmp_path / "model", EXPORT)
    before = model_fingerprint(model)
    write(tmp_path / "model", {"selfcheck.npz": b"1", "notes.txt": b"2"})
    (tmp_path / "model" / "model_cache").mkdir()
    assert model_fingerprint(model) == before
    swapped = {**EXPORT, "model.json": EXPORT["model.onnx"], "model.onnx": EXPORT["model.json"]}
    assert model_fingerprint(write(tmp_path / "model", swapped)) != before


@pytest.mark.parametrize("key", IDENTITY)
def test_each_setting_that_makes_another_job_is_refused(tmp_path, key):
    folder, manifest = Folder(str(tmp_path)), Manifest(**JOB)
    require_same_job(folder, manifest, {name: JOB[name] for name in IDENTITY})
    require_same_job(folder, manifest, {})
    with pytest.raises(DataError) as error:
        require_same_job(folder, manifest, {name: JOB[name] for name in IDENTITY} | {key: OTHERS[key]})
    there = "none" if key in ("tta", "slicing") else JOB[key]
    values = "" if key in ("model", "images_sha256") else f" ({there} there, {OTHERS[key]} now)"
    assert str(error.value) == (
        f"{folder.url} belongs to a job with {IDENTITY[key]}{values}: name another --output, or delete it"
    )


def test_a_job_keeps_what_the_model_says_unless_it_is_given_a_number(tmp_path):
    job, by_class = BatchJob("m", "i", "o"), {"class_thresholds": {"red": 0.4}}
    assert threshold_of(job, {"draw_threshold": 0.5}) == 0.0 and threshold_of(job, by_class) is None
    assert threshold_of(replace(job, threshold=0.0), by_class) == 0.0
    Manifest(**{**JOB, "threshold": None}).write(Folder(str(tmp_path)))
    manifest = read_manifest(Folder(str(tmp_path)))
    require_same_job(Folder(str(tmp_path)), manifest, {"threshold": None})
    with pytest.raises(DataError, match=r"another --threshold \(one for each class there, 0.25 now\)"):
        require_same_job(Folder(str(tmp_path)), manifest, {"threshold": 0.25})


def test_what_is_written_is_read(tmp_path):
    folder, manifest = Folder(str(tmp_path)), Manifest(**JOB)
    assert read_manifest(folder) is None
    manifest.write(folder)
    assert read_manifest(folder) == manifest
    assert json.loads((tmp_path / "manifest.json").read_text()) == {**JOB, "finished": None, "format": 1}
    manifest.finish(folder, Counts(3, 1, 8))
    assert read_manifest(folder).finished == {"images": 3, "errors": 1, "boxes": 8}
    (tmp_path / "manifest.json").write_text('{"model": "f00d", "of": "another version"}')
    with pytest.raises(DataError, match=r"manifest\.json: damaged, or of another version"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("one", "others"),
    [
        (
            ImagePaths("/x", ["a.png", "b.png"]),
            [ImagePaths("/y", ["a.png", "b.png"]), ImagePaths("/x", ["b.png", "a.png"]), ImagePaths("/x", ["a.png"])],
        ),
        (
            EncodedImages([("t.parquet", 5)], "bytes", "name"),
            [
                EncodedImages([("t.parquet", 6)], "bytes", "name"),
                EncodedImages([("u.parquet", 5)], "bytes", "name"),
                EncodedImages([("t.parquet", 5)], "image", "name"),
                EncodedImages([("t.parquet", 5)], "bytes", "key"),
                EncodedImages([("t.parquet", 5)], "bytes"),
                EncodedImages([("t.parquet", 5), ("u.parquet", 5)], "bytes", "name"),
            ],
        ),
    ],
)
def test_other_images_or_names_are_another_job(one, others):
    prints = [images.fingerprint() for images in (one, *others)]
    assert len(set(prints)) == len(prints) and prints[0] == replace(one).fingerprint()


HOSTILE = [None, True, -1, 0.5, 2**64, 10**4000, float("nan"), float("inf"), "", "x", [], [[]], [None], {}, {"a": {}}]
DEEP = b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("field", [*JOB, "finished", "format"])
def test_a_manifest_from_anybody_is_accepted_or_refused_in_one_line(tmp_path, field):
    """What passes can be compared with the job, and written again."""
    folder = Folder(str(tmp_path))
    for value in HOSTILE:
        (tmp_path / "manifest.json").write_text(json.dumps({**JOB, field: value}))
        try:
            manifest = read_manifest(folder)
            require_same_job(folder, manifest, {name: JOB[name] for name in IDENTITY})
        except DataError as error:
            assert "\n" not in str(error) and str(error).startswith(f"{tmp_path}")
            continue
        assert type(manifest.shard_size) is int and manifest.shard_size > 0
        manifest.finish(folder, Counts(3, 1, 8))
        assert read_manifest(folder) == manifest


def test_other_manifests_are_refused_too(tmp_path):
    folder, path = Folder(str(tmp_path)), tmp_path / "manifest.json"
    for content in (b"", b"[]", b"3", b"null", b"\xff", b"\0", DEEP, b'{"model": ' + b"9" * 100_000 + b"}"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"manifest\.json: damaged, or of another version"):
            read_manifest(folder)
    with open(path, "wb") as stream:
        stream.truncate(2**40)  # without content on the disk
    with pytest.raises(DataError, match=r"manifest\.json: larger than"):
        read_manifest(folder)
    for make in (os.mkfifo, os.mkdir, lambda place: os.symlink("/dev/zero", place)):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(DataError, match=r"manifest\.json: (not a regular file|Is a directory)"):
            read_manifest(folder)
