"""Lip sync in the host, from a tracked face to the pasted video: a random student, so its mouths are noise."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from talkstream.streaming.face_alignment import paste
from talkstream.streaming.mouth_mask import MouthMask
from talkstream.tests.nodes.lipsync import Studio, pictures, pulled, tracked
from talkstream.tests.videos import number_of, numbered, turn, write_video

pytestmark = pytest.mark.host

NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def studio(host, tmp_path_factory):
    return Studio.open(tmp_path_factory.mktemp("lipsync"))


def own_pictures(face, frames: int) -> list[np.ndarray]:
    """What the result shows where nothing is pasted."""
    from talkstream.media.frame_reader import FrameReader

    reader = FrameReader(face.source)
    return [reader.picture(face.clock.source_of(frame)) for frame in range(frames)]


def mouth_region(face, side: int) -> np.ndarray:
    """Pixels that a pasted face can touch: (H, W) bool."""
    soft = MouthMask.drawn().soft(side, side).numpy()
    black = np.zeros((face.source.height, face.source.width, 3), np.uint8)
    white = np.full((side, side, 3), 255, np.uint8)
    return paste(black, white, face.track.matrix_at(0, side=side), soft).any(-1)


def test_the_video_keeps_its_size_rate_and_pixels(studio):
    """A voice of 1.4 s over 20 frames at 29.97: 42 frames, forward, backward, forward; outside the mouth exact."""
    from talkstream.nodes.pasting import plan_paste

    face = tracked(studio.video("ntsc.mp4", 20, NTSC))
    source, reference, shown = studio.source(face)
    assert shown.shape == (2, 32, 32, 3)
    assert (shown[1][MouthMask.drawn().pixels(32, 32)] == 0.5).all()
    faces = studio.frames(source, reference, seconds=1.4)
    frames = plan_paste(faces, original_sound=False)
    assert (frames.frames, frames.fps, frames.width, frames.height) == (42, NTSC, 96, 64)
    made = pictures(pulled(frames))
    expected = np.stack(own_pictures(face, 42))
    assert [number_of(picture) for picture in made] == [number_of(picture) for picture in expected]
    assert [number_of(picture) for picture in expected] == [*range(20), *range(18, 0, -1), *range(4)]
    region = mouth_region(face, 32)
    assert np.array_equal(made[:, ~region], expected[:, ~region])
    changed = (made != expected).any(-1)[:, region].mean(1)
    assert changed.min() > 0.5
    assert frames.stream.take.complete
    again = pictures(pulled(plan_paste(faces, original_sound=False)))
    assert np.array_equal(again, made)


@pytest.mark.parametrize("rate", ["24000/1001", "30000/1001", "30", "50", "60"])
def test_every_rate_keeps_its_pictures_and_takes_the_mouths_in_time(studio, rate):
    """Half a second of 25 mouths a second: the nearest one, above 30 pictures a second a blend of the two around."""
    from talkstream.nodes.pasting import plan_paste

    fps = Fraction(rate)
    face = tracked(studio.video("rate.mp4", 32, fps))
    source, reference, _ = studio.source(face)
    faces = studio.frames(source, reference, seconds=0.5)
    mouths, frames = pictures(pulled(faces)), plan_paste(faces, original_sound=False)
    made = pictures(pulled(frames))
    assert (frames.fps, len(made)) == (fps, int(fps / 2 + Fraction(1, 2)))
    soft = MouthMask.drawn().soft(32, 32).numpy()
    for number, own in enumerate(own_pictures(face, len(made))):
        time = number * 25 / fps
        before, last = time.numerator // time.denominator, len(mouths) - 1
        pair = [mouths[min(before, last)].astype(float), mouths[min(before + 1, last)]]
        weight = float(time - before)
        weight = weight if fps > 30 else float(weight >= 0.5)
        mouth = np.rint(pair[0] * (1 - weight) + pair[1] * weight).astype(np.uint8)
        assert number_of(own) == number
        assert np.array_equal(made[number], paste(own, mouth, face.track.matrix_at(number, side=32), soft))


@pytest.mark.parametrize("kind", ["lying on its side", "odd"])
def test_phone_videos_and_odd_sizes_come_out_upright_and_whole(studio, kind):
    """Ten-bit pictures stored on their side; 95x63 without its last column and row. Beyond the mouth: the pixels."""
    from talkstream.nodes.pasting import plan_paste

    path = studio.folder / f"{kind}.mp4"
    if kind == "odd":
        write_video(path, [numbered(n, width=95, height=63) for n in range(12)], pixels="yuv444p")
    else:
        stored = [np.ascontiguousarray(np.rot90(numbered(n))) for n in range(12)]
        turn(write_video(path, stored, pixels="yuv420p10le"), 90)
    face = tracked(path)
    source, reference, _ = studio.source(face)
    frames = plan_paste(studio.frames(source, reference, seconds=0.48), original_sound=False)
    assert (frames.width, frames.height) == ((94, 62) if kind == "odd" else (96, 64))
    made, expected = pictures(pulled(frames)), np.stack(own_pictures(face, 12))
    assert [number_of(picture) for picture in made] == list(range(12))
    region = mouth_region(face, 32)
    assert np.array_equal(made[:, ~region], expected[:, ~region])
    assert (made != expected).any(-1)[:, region].mean() > 0.5


def test_a_cut_starts_afresh_and_missing_faces_pass_through(studio):
    """The second shot is what it would be alone; ten frames without a face are the video's own."""
    from talkstream.nodes.pasting import plan_paste

    path = studio.video("cut.mp4", 40, Fraction(25))
    face = tracked(path, cut=24, missing=range(10, 20))
    source, reference, _ = studio.source(face)
    frames = plan_paste(studio.frames(source, reference, seconds=1.6), original_sound=False)
    assert [(s.first_frame, s.frames) for s in frames.stream.spec.segments] == [(0, 24), (24, 16)]
    assert frames.stream.spec.chunks == 3 + 2
    made, expected = pictures(pulled(frames)), np.stack(own_pictures(face, 40))
    same = (made == expected).all((1, 2, 3))
    assert same.tolist() == [10 <= frame < 20 for frame in range(40)]
    early = studio.frames(source, reference, seconds=0.96)
    assert np.array_equal(pictures(pulled(plan_paste(early, original_sound=False)))[:21], made[:21])


def test_shots_without_a_face_are_never_made(studio):
    from talkstream.nodes.pasting import plan_paste

    face = tracked(studio.video("away.mp4", 30, Fraction(25)), cut=12, missing=range(12, 30))
    source, reference, _ = studio.source(face)
    frames = plan_paste(studio.frames(source, reference, seconds=1.2), original_sound=False)
    assert [(s.first_frame, s.frames) for s in frames.stream.spec.segments] == [(0, 12)]
    made, expected = pictures(pulled(frames)), np.stack(own_pictures(face, 30))
    assert (made == expected).all((1, 2, 3)).tolist() == [frame >= 12 for frame in range(30)]


def test_a_piece_first_and_the_rest_later(studio):
    """The second pull goes on behind the first chunk, across a cut, as if there had been one pull."""
    from talkstream.nodes.pasting import plan_paste

    face = tracked(studio.video("fifty.mp4", 40, Fraction(50)), cut=30)
    source, reference, _ = studio.source(face)
    whole = pictures(pulled(plan_paste(studio.frames(source, reference, seconds=0.8), original_sound=False)))
    assert len(whole) == 40
    frames = plan_paste(studio.frames(source, reference, seconds=0.8), original_sound=False)
    first = pictures(pulled(frames, chunks=1))
    assert 0 < frames.stream.take.chunks < frames.stream.spec.chunks
    assert np.array_equal(first, whole[: len(first)])
    assert np.array_equal(pictures(pulled(frames)), whole)


def test_finish_now_ends_with_the_mouths_that_are_made(studio, monkeypatch):
    """After the first chunk of 9 mouths: at 50 frames a second 16 pictures need no later one."""
    from talkstream.nodes.host.finishing import FINISH
    from talkstream.nodes.pasting import plan_paste

    face = tracked(studio.video("finish.mp4", 40, Fraction(50)))
    source, reference, _ = studio.source(face)
    frames = plan_paste(studio.frames(source, reference, seconds=0.8), original_sound=False)
    with monkeypatch.context() as patch:
        patch.setattr(type(FINISH), "asked", lambda *_: True)
        made = pictures(pulled(frames))
    assert len(made) == face.clock.ready(9) == 16
    whole = pictures(pulled(frames))
    assert len(whole) == 40
    assert np.array_equal(whole[:16], made)


def test_a_process_that_died_is_continued_by_the_next(studio, tmp_path):
    """Latents and state come from the disk, the video's latents are made anew; the bits are those of one run."""
    from talkstream.nodes.host.takes import chunk_shape
    from talkstream.nodes.pasting import plan_paste
    from talkstream.nodes.pull import pulling
    from talkstream.streaming.saved_run import RunStore

    path, store = studio.video("killed.mp4", 60, Fraction(25)), RunStore(tmp_path / "runs", 10**9, 1e9)

    def opened():
        source, reference, _ = studio.source(tracked(path, cut=30))
        frames = plan_paste(studio.frames(source, reference, seconds=2.4), original_sound=False)
        return frames, store.open("a" * 40, shape=chunk_shape(frames.stream.spec))

    frames, saved = opened()
    with pytest.raises(RuntimeError, match="killed"):
        with pulling(frames, node_id="8", prompt=None, saved=saved, save_every=1) as pull:
            for piece in pull.chunks():
                if piece.index == 4:
                    raise RuntimeError("killed")
    saved.close()
    again, saved = opened()
    assert saved.chunks == 4
    with pulling(again, node_id="8", prompt=None, saved=saved, save_every=1) as pull:
        made = pictures(list(pull.chunks()))
    saved.delete()
    assert np.array_equal(made, pictures(pulled(opened()[0])))


def test_the_sound_is_the_voice_or_the_videos_own(studio):
    from talkstream.nodes.pasting import plan_paste
    from talkstream.nodes.record import sound_of

    face = tracked(studio.video("sound.mp4", 25, Fraction(25), sound=True))
    source, reference, _ = studio.source(face)
    faces = studio.frames(source, reference, seconds=0.6)
    for original in (False, True):
        sound = sound_of(plan_paste(faces, original_sound=original), start=0, stop=10)
        tone = abs(np.fft.rfft(sound["waveform"][0, 0, 2000:6000].numpy())).argmax() / 4000 * 2 * np.pi
        assert sound["waveform"].shape[-1] == 6400
        assert (abs(tone - 0.3) < 0.01) == original
    silent = tracked(studio.video("silent.mp4", 25, Fraction(25)))
    source, reference, _ = studio.source(silent)
    with pytest.raises(ValueError, match="no sound of its own"):
        plan_paste(studio.frames(source, reference, seconds=0.6), original_sound=True)


def test_a_run_is_known_by_its_video(studio):
    """The same parts have one name in another process; another track of the same file has another."""
    from talkstream.nodes.host.identity import fingerprint
    from talkstream.nodes.saving import parts_of

    path, names = studio.video("named.mp4", 12, Fraction(25)), []
    for missing in (range(0), range(0), range(3, 5)):
        source, reference, _ = studio.source(tracked(path, missing=missing))
        names.append(fingerprint(parts_of(studio.frames(source, reference, seconds=0.4).stream)))
    assert names[0] == names[1] != names[2]


def test_wrong_parts_are_told_in_a_sentence(studio):
    from talkstream.nodes.pasting import plan_paste
    from talkstream.nodes.plan import plan_stream

    source, reference, _ = studio.source(tracked(studio.video("wrong.mp4", 12, Fraction(25))))
    frames = studio.frames(source, reference, seconds=0.4)
    with pytest.raises(ValueError, match="pasted already"):
        plan_paste(plan_paste(frames, original_sound=False), original_sound=False)
    with pytest.raises(ValueError, match="connect Encode Source Video to source"):
        plan_stream(
            studio.model, studio.speech(0.4), reference, conditioning=None, sigmas=None, cache=None, seed=1
        )
