"""Detection on a video, a stream or a camera: an annotated video, and the detections of each frame."""

import json
import os
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ppdet.data.classes import category_id
from ppdet.deploy.detector import Detections, Detector
from ppdet.deploy.video.source import WAITS, Frame, VideoSource
from ppdet.deploy.video.written_video import VideoFile, usable_codec
from ppdet.utils.class_thresholds import Thresholds, in_words
from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import DataError
from ppdet.utils.iteration import batches, newest, run_ahead
from ppdet.utils.logger import get_logger, is_watched
from ppdet.utils.printable import counted
from ppdet.utils.process.stop import Stopped, StopRequests
from ppdet.visualize import draw_detections

logger = get_logger(__name__)
STOP_KEYS = (ord("q"), 27)  # 27 is Escape


def detect_video(
    detector: Detector,
    source: VideoSource,
    output_dir: str,
    *,
    batch_size: int = 1,
    threshold: Thresholds = 0.5,
    visualize: bool = True,
    save_results: bool = False,
) -> None:
    """Detect on every frame of a video, stream or camera, and write the results to files.

    Of a camera or live stream, the newest frame is always the next one: those that come while the model runs are left
    out. Its frames are also shown in a window, if OpenCV has windows; Q or Escape in it ends the detection. The
    written video has one frame rate and the time of the source: a frame is repeated until the next one is due. Ctrl-C
    and SIGTERM end the detection after the current batch, and the files are finished.

    Args:
        output_dir: folder for NAME.mp4 (or .avi) and NAME.jsonl.
        batch_size: frames in one batch.
        threshold: least score of a drawn detection, for all classes or for each; NAME.jsonl has all detections.
        visualize: write a video with the detections drawn into it.
        save_results: write NAME.jsonl, a line of JSON per frame.

    Raises:
        DataError: a video cannot be written, or would replace the source; or a stream or camera was lost, after the
            files were finished.
        Stopped: a signal has ended it before the end of the video. A camera or live stream has no other end.
    """
    start = time.perf_counter()
    is_stopped = False
    requests = StopRequests("finishing this batch, then the files")
    with requests, ExitStack() as stack:
        stack.callback(source.close)
        requests.can_wait = True  # from here on there are files to finish
        results = VideoResults(stack, detector, source, Path(output_dir), threshold, visualize, save_results)
        source.is_stopped = lambda: is_stopped or requests.received is not None
        # A thread reads and preprocesses the next frames while the model runs; frames of a camera should not get old.
        ahead = batch_size if source.live else 2 * batch_size
        frames = stack.enter_context(closing(newest(source) if source.live else iter(source)))
        samples = run_ahead(((frame, detector.prepare(frame.image)) for frame in frames), ahead)
        bar = tqdm(total=source.announced or None, unit="frame", leave=False, disable=not is_watched())
        with closing(samples), bar:
            for batch in batches(samples, batch_size):
                found = detector.run([sample for _, sample in batch])
                for (frame, _), detections in zip(batch, found):
                    results.add(frame, detections)
                bar.update(len(batch))
                if requests.received or results.wants_to_stop():
                    is_stopped = True
                    break
    seconds = time.perf_counter() - start
    speed = results.frames / seconds
    logger.info("%s in %.1f s: %.2f frames/s", counted(results.frames, "frame"), seconds, speed)
    logger.info("%s %s", counted(results.detections, "detection"), in_words(threshold))
    if source.live and source.decoded > results.frames:
        logger.info("%d frames left out, because newer ones had come", source.decoded - results.frames)
    if is_stopped or requests.received:
        logger.warning("stopped after %d frames%s", results.frames, f" of {source.announced}" * bool(source.announced))
    else:
        if source.missing:
            logger.warning("%d frames of %s could not be decoded", source.missing, source.name)
        if source.missing_seconds:
            line = (
                "%s: about %.1f s may be missing at the end, unless its sound is longer or an edit list leaves them out"
            )
            logger.warning(line, source.name, source.missing_seconds)
    if results.unseen:
        line = "%d frames are not in the written video, which has %g frames per second: others came soon after them"
        logger.info(line, results.unseen, source.rate)
    for kind, path in results.paths.items():
        logger.info("%s: %s", kind, path)
    if requests.received and not source.live:
        raise Stopped(requests.received)
    if source.is_lost:
        raise DataError(f"{source.name}: no frame came any more, in {len(WAITS)} attempts to open it again")


def check_output(source: VideoSource, output_dir: str | os.PathLike, visualize: bool) -> None:
    """Make the folder for the results of a source, and see that they can be written there; see `detect_video`.

    Raises:
        DataError: a video cannot be written, or would replace the source.
        OSError: the folder cannot be made, or written to.
    """
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    if not visualize:
        return
    path = output / (source.stem + usable_codec(output, source.size, source.rate)[1])
    if not source.live and path.resolve() == Path(source.name).resolve():
        raise DataError(f"{path}: the result would overwrite the video itself: name another --output_dir")


class VideoResults:
    """Writes and shows the detections on a video. The files get their names when `stack` is closed without an error.

    Args:
        stack: closes the files and the window.
        detector, source, threshold, visualize, save_results: see `detect_video`.
        output: folder of the files.

    Attributes:
        frames: number of frames that were added.
        detections: number of detections with a score of at least the threshold.
        paths: the written files, under "detections" and "video".
    """

    def __init__(
        self,
        stack: ExitStack,
        detector: Detector,
        source: VideoSource,
        output: Path,
        threshold: Thresholds,
        visualize: bool,
        save_results: bool,
    ) -> None:
        self.detector, self.source, self.threshold = detector, source, threshold
        self.frames = self.detections = 0
        self.paths: dict[str, Path] = {}
        self._lines = self._video = self._window = None
        stem = output / source.stem
        check_output(source, output, visualize)
        if save_results:
            path = self.paths["detections"] = stem.with_name(f"{stem.name}.jsonl")
            temporary = stack.enter_context(atomic_path(path))
            self._lines = stack.enter_context(temporary.open("w", encoding="utf-8"))
        if visualize:
            self._video = stack.enter_context(VideoFile(stem, source.size, source.rate))
            self.paths["video"] = self._video.path
        if source.live:
            self._window = stack.enter_context(Window(source.name))

    def add(self, frame: Frame, found: Detections) -> None:
        """Write and show the detections in a frame."""
        self.frames += 1
        self.detections += len(found.above(self.threshold))
        if self._lines:
            self._lines.write(json.dumps(self._line(frame, found)) + "\n")
        if not self._video and not self._window:
            return
        picture = draw_detections(frame.image, found.rows, self.detector.class_names, self.threshold)
        if self._video:
            self._video.show(picture, frame.seconds)
        if self._window:
            self._window.show(picture)

    @property
    def unseen(self) -> int:
        """Number of frames that have no place in the written video."""
        return self._video.unseen if self._video else 0

    def wants_to_stop(self) -> bool:
        """Whether Q or Escape was pressed in the window, or the window was closed."""
        return self._window is not None and self._window.is_stopped()

    def _line(self, frame: Frame, found: Detections) -> dict:
        boxes = zip(found.classes.tolist(), found.names, found.scores.tolist(), found.boxes.tolist())
        return {
            "frame": frame.number,
            "seconds": round(frame.seconds, 6),
            "detections": [
                {
                    "category_id": category_id(label, self.detector.category_ids),
                    "name": name,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
                for label, name, score, (x1, y1, x2, y2) in boxes
            ],
        }


class Window:
    """A window that shows images; without a display, or with opencv-python-headless, it only logs that it cannot."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.is_open = False
        # Without a display some builds of OpenCV end the whole process.
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if display or not sys.platform.startswith("linux"):
            try:
                cv2.namedWindow(title, cv2.WINDOW_NORMAL)
                self.is_open = True
            except cv2.error:
                pass
        if not self.is_open:
            logger.info("no window can be shown (no display, or opencv-python-headless): Ctrl-C ends the camera")

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_open:
            cv2.destroyWindow(self.title)

    def show(self, image: np.ndarray) -> None:
        """Show an image, (H, W, 3) RGB uint8."""
        if self.is_open:
            cv2.imshow(self.title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def is_stopped(self) -> bool:
        """Whether Q or Escape was pressed, or the window was closed."""
        if not self.is_open:
            return False
        pressed = cv2.waitKey(1) & 0xFF
        return pressed in STOP_KEYS or cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
