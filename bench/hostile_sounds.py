"""Damaged sound files: each must give samples or one clear error, and never end the process.

    python -m bench.hostile_sounds 12000 [--seed 1]

Files of every kind that is read are changed at random and read in child processes of 500, so that a crash of the
decoder, which is C, is seen; the file that did it is kept. What is no MediaError is printed, as are files that take
seconds.
"""

import argparse
import io
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edge_embed_runtime.errors import MediaError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.soundfacts import describe_sound
from edge_embed_runtime.inputs.sounds import mono

KINDS = {
    "WAV": "PCM_16 PCM_24 PCM_U8 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32 NMS_ADPCM_16 MPEG_LAYER_III",
    "WAVEX": "PCM_16",
    "RF64": "PCM_16",
    "W64": "PCM_16 IMA_ADPCM GSM610",
    "AIFF": "PCM_16 PCM_S8 FLOAT ULAW IMA_ADPCM DWVW_12 GSM610",
    "FLAC": "PCM_16 PCM_24",
    "OGG": "VORBIS OPUS",
    "MP3": "MPEG_LAYER_III MPEG_LAYER_II MPEG_LAYER_I",
    "AU": "PCM_16 G721_32 G723_24 ULAW",
    "CAF": "PCM_16 ALAC_16 ALAC_24",
}
EACH = 500
SLOW_SECONDS = 3.0
SIZES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", b"\0\0\0\1")


def whole_files() -> list[tuple[str, bytes]]:
    """Half a second of each kind that this libsndfile writes, with one channel and with two."""
    soundfile = require("soundfile", "audio")
    time, noise = np.arange(4000) / 8000, np.random.default_rng(1)
    found = []
    for kind, subtypes in KINDS.items():
        for subtype in subtypes.split():
            for channels in (1, 2):
                tone = 0.5 * np.sin(2 * np.pi * 440 * time)[:, None] * np.ones((1, channels))
                samples = (tone + noise.standard_normal(tone.shape) * 0.05).astype(np.float32)
                file = io.BytesIO()
                try:
                    soundfile.write(file, samples, 8000, format=kind, subtype=subtype)
                except (soundfile.SoundFileError, ValueError):
                    continue
                found.append((f"{kind}-{subtype}-{channels}", file.getvalue()))
    return found


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, sizes replaced, parts taken out, put in or cut off: more often in the header."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 3, 8, 40))):
        if len(data) < 8:
            break
        place = chance.randrange(min(len(data), 200) if chance.random() < 0.6 else len(data))
        match chance.randrange(6):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                data[place] ^= 1 << chance.randrange(8)
            case 2:
                data[place : place + 4] = chance.choice(SIZES)
            case 3:
                del data[place : place + chance.randrange(1, 64)]
            case 4:
                data[place:place] = chance.randbytes(chance.randrange(1, 32))
            case _:
                data = data[:place] + data[chance.randrange(len(data)) :]
    return bytes(data)


def read_some(first: int, seed: int, kept: Path) -> None:
    """What one child does: EACH files from number `first` on; the file that is being read lies in `kept`."""
    files, taken = whole_files(), 0
    for number in range(first, first + EACH):
        chance = random.Random(seed * 10**7 + number)  # noqa: S311 - no secret
        name, content = chance.choice(files)
        content = damaged(content, chance)
        kept.write_bytes(content)
        start = time.perf_counter()
        try:
            sum(len(block) for block in mono(content, 16_000))
            describe_sound(content)
            taken += 1
        except MediaError:
            pass
        except BaseException as error:  # noqa: BLE001 - what is looked for
            print("foreign", number, name, type(error).__name__, str(error)[:200])
        if time.perf_counter() - start > SLOW_SECONDS:
            print("slow", number, name, f"{time.perf_counter() - start:.1f} s")
    print("read", first + EACH, "taken", taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        read_some(asked.count, asked.seed, asked.child)
        return
    folder, crashes = Path(tempfile.mkdtemp()), 0
    for first in range(0, asked.count, EACH):
        kept = folder / f"crash-{first}"
        command = [sys.executable, "-m", "bench.hostile_sounds", str(first), "--seed", str(asked.seed), "--child"]
        found = subprocess.run([*command, str(kept)], capture_output=True, text=True, check=False)
        print(found.stdout, end="", flush=True)
        if found.returncode:
            crashes += 1
            print("CRASH", found.returncode, kept, found.stderr[-300:], flush=True)
        else:
            kept.unlink()
    print("crashes:", crashes)


if __name__ == "__main__":
    main()
