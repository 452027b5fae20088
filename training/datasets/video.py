"""Pictures to an MP4 file and back, with every frame at its own time. Knows no datasets.

H.264 without B frames and with a key frame every GOP frames, so that a picture in the middle is had quickly.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from training.datasets.layout import DatasetError

GOP = 10
OPTIONS = {"crf": "18", "preset": "veryfast", "bf": "0"}


class VideoWriter:
    """Writes RGB pictures one after the other; frame i stands at i / fps. The file is whole only after `close`."""

    def __init__(self, path: Path, fps: int, height: int, width: int):
        self.frames, self._closed = 0, False
        self._container = av.open(str(path), "w", format="mp4")
        stream = self._container.add_stream("libx264", rate=fps, options=OPTIONS)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size = GOP
        stream.codec_context.thread_count = 1  # nearly always the same file from the same pictures
        stream.codec_context.time_base = stream.time_base = Fraction(1, fps)
        self._stream = stream

    def add(self, image: np.ndarray) -> None:
        """The next picture, (h, w, 3) uint8 RGB. Raises DatasetError for another size or type."""
        if image.shape != (self._stream.height, self._stream.width, 3) or image.dtype != np.uint8:
            wanted = (self._stream.height, self._stream.width, 3)
            raise DatasetError(f"frame {self.frames}: picture is {image.shape} {image.dtype}, expected {wanted} uint8")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self.frames, self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Write what is left. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self.frames:
            self._container.mux(self._stream.encode())
        self._container.close()


def decode(path: Path, from_s: float = 0.0, frames: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """(time in the file [s], picture (h, w, 3) uint8 RGB) of up to `frames` frames from `from_s` on. Raises
    DatasetError for a file that cannot be read."""
    left = -1 if frames is None else frames
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            half_s = 0.5 / float(stream.average_rate)
            if from_s > 0.0:
                container.seek(max(0, round(from_s / stream.time_base) - 1), stream=stream)
            for frame in container.decode(stream):
                at_s = float(frame.pts * stream.time_base)
                if at_s < from_s - half_s:
                    continue
                if left == 0:
                    return
                left -= 1
                yield at_s, frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from error
