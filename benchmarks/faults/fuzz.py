"""Does whatever is read end in success or in one line? Files of every kind are damaged at random and read.

python benchmarks/faults/fuzz.py FOLDER [--cases 10000] [--seed 0] [--only KIND] [--case NUMBER]

FOLDER receives a small data set and a finished run, which a later call uses again. Each case damages one file: bits,
bytes and parts of it, words and numbers in text, values anywhere in JSON, another version. Whoever reads it, in this
process, must succeed or raise a `SlimError` of one line, within ten seconds of processor time. Prints every other
ending with its number, which `--case` repeats, and the figures at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from small import slim_run, small_data

import slim
from slim.data.inspection import faults_in
from slim.network.checkpoints import read_state_dict
from slim.progress import quiet
from slim.runs.run import Run
from slim.runs.settings import RunSettings, read_recipe
from slim.runs.transfer import READERS
from slim.stages import STAGES
from slim.stages.annotate.formats import merge_answers

_LIMIT, _WAIT = 10, 300  # seconds: of processor time, and altogether, on a machine that may be busy
_TIMERS = ((signal.SIGPROF, signal.ITIMER_PROF, _LIMIT), (signal.SIGALRM, signal.ITIMER_REAL, _WAIT))
_ODD = [
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    "",
    "NaN",
    "\0",
    "é\n",
    [],
    {},
    [[]],
    {"": None},
    "x" * 5000,
    0.5,
    "-0",
    "../x",
]
_WORDS = [
    "",
    "nan",
    "-1",
    "1e999",
    "99999999999999999999",
    '"',
    ",",
    "\n",
    "\0",
    "\ud800",
    "true",
    "=1+1",
    "é",
    ";",
    "[",
    "}",
]


@dataclass(frozen=True)
class Kind:
    """A file to damage, and what reads it."""

    name: str
    source: Path
    read: Callable[[Path], Any]
    json: bool = False
    text: bool = False


def damaged(content: bytes, kind: Kind, rng: random.Random) -> bytes:
    """The content with a few random faults."""
    if kind.json and rng.random() < 0.7:
        return odd_json(content, rng)
    if kind.text and rng.random() < 0.6:
        return odd_text(content, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        content = rng.choice((flip, cut, insert, repeat, fill))(content, rng)
    return content


def flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return content
    place = rng.randrange(min(len(content), rng.choice((64, 512, 10**9))))  # headers are short, and count most
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.randbytes(rng.choice((1, 4, 64))) + content[place:]


def repeat(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    part = content[start : start + rng.choice((1, 8, 200))]
    return content[:start] + part + content[start:]


def fill(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    length = min(rng.choice((1, 8, 64)), len(content) - start)
    return content[:start] + bytes([rng.choice((0, 255, 32, 48))]) * length + content[start + length :]


def odd_text(content: bytes, rng: random.Random) -> bytes:
    """One word or line of a text replaced, removed or doubled."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    place = rng.choice((0, 0, rng.randrange(len(lines))))
    words = lines[place].replace(";", ",").split(",")
    words[rng.randrange(len(words))] = rng.choice((*_WORDS, rng.choice(words)))
    lines[place] = ",".join(words)
    if rng.random() < 0.3:
        lines.insert(rng.randrange(len(lines)), rng.choice((*lines, "", ",,,")))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def odd_json(content: bytes, rng: random.Random) -> bytes:
    """One value of a JSON file replaced, removed, doubled or moved."""
    value = json.loads(content)
    spots: list[tuple[Any, Any]] = []
    nodes = [value]
    while nodes:
        node = nodes.pop()
        inner = (
            list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        )
        spots += [(node, key) for key, _ in inner]
        nodes += [child for _, child in inner if isinstance(child, dict | list)]
    if not spots or rng.random() < 0.03:
        return json.dumps(rng.choice(_ODD)).encode()
    node, key = rng.choice(spots)
    how = rng.randrange(4)
    if how == 0:
        del node[key]
    elif how == 1 and isinstance(node, dict):
        node[rng.choice(["", "extra", key + "x"])] = node.pop(key)
    elif how == 2 and isinstance(node[key], int | float) and key in ("format", "version", "seed", "index"):
        node[key] += rng.choice((-1, 1, 1000))
    else:
        node[key] = rng.choice((*_ODD, rng.choice(spots)[0]))
    try:
        return json.dumps(value).encode()
    except ValueError:  # a value that contains itself
        return json.dumps(rng.choice(_ODD)).encode()


def kinds(folder: Path) -> list[Kind]:
    """Everything that SLIM reads, as a finished run and its exports hold it."""
    run, material = folder / "run", folder / "material"
    material.mkdir(exist_ok=True)
    opened = slim.open_run(run)
    table, model = opened.data.train, opened.load("train")
    answered = material / "run"
    shutil.copytree(run, answered, dirs_exist_ok=True)
    lines = [f"{path},{answer},0.4,0.5\n" for path, answer in zip(table.paths, ["core", "spurious"] * 8, strict=False)]
    (material / "people.csv").write_text("path,answer,x,y\n" + "".join(lines).replace("core,0.4,0.5", "core,,"))
    slim.import_judgements(answered, material / "people.csv")
    for to in ("csv", "json", "label-studio"):
        slim.export_judgements(answered, material / f"answers.{to}", to=to)
    (material / "recipe.toml").write_text('based_on = "demo"\n[train]\nepochs = 3\n[curate]\nsize = 12\n')
    torch.save({"state_dict": model.module.state_dict(), "class_names": ["3", "8"]}, material / "model.pt")
    slim.check(opened.data).write(material / "bad-images.csv")
    for ending in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        Image.open(table.paths[0]).convert("RGB").save(material / f"photo.{ending}")
    columns = "img_filename,y,split,background,box_x,box_y,box_width,box_height\n"
    rows = [f"{p},{y},{i % 3},{i % 2},1,2,3,4\n" for i, (p, y) in enumerate(zip(table.paths, table.y, strict=True))]
    (material / "metadata.csv").write_text(columns + "".join(rows))

    def answers(of: Any) -> Callable[[Path], Any]:
        def read(path: Path) -> int:
            with slim.Store(":memory:") as store:
                return merge_answers(store, table, READERS[of](str(path)))

        return read

    def beside(file: Path, use: Callable[[Path], Any]) -> Callable[[Path], Any]:
        """A reader of a whole folder, of which one file is replaced."""

        def read(path: Path) -> Any:
            with tempfile.TemporaryDirectory() as copy:
                shutil.copytree(file.parent, copy, dirs_exist_ok=True)
                shutil.copyfile(path, Path(copy) / file.name)
                return use(Path(copy))

        return read

    def state(stage: str) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            with tempfile.TemporaryDirectory() as copy:
                for name in (*(s.folder for s in STAGES.values()), "settings.json"):
                    (Path(copy) / name).symlink_to(run / name)
                (Path(copy) / stage).unlink()
                shutil.copytree(run / stage, Path(copy) / stage)
                shutil.copyfile(path, Path(copy) / stage / "manifest.json")
                return list(Run(slim.runs.run.RunFolder(Path(copy)), RunSettings.load(copy)).status())

        return read

    def settings(path: Path) -> Any:
        with tempfile.TemporaryDirectory() as copy:
            shutil.copyfile(path, Path(copy) / "settings.json")
            return RunSettings.load(copy)

    def store(path: Path) -> Any:
        with slim.Store(path) as opened_store:
            return len(opened_store.answers()), len(opened_store.settled()), opened_store.added()

    def image(path: Path) -> Any:
        paths = [str(path), *table.paths[1:9]]
        small = slim.load_dataset(slim_frame(paths))
        found = slim.check(small)
        (part,) = [p for p in (small.train, small.val, small.test) if str(path) in p.paths]
        i = part.paths.index(str(path))
        if not any(fault.path == str(path) for fault in found.faults):
            part.image(i)  # what the check lets through can be read
        return found

    made = [
        Kind("metadata", material / "metadata.csv", slim.load_dataset, text=True),
        Kind("recipe", material / "recipe.toml", read_recipe, text=True),
        Kind("settings", run / "settings.json", settings, json=True),
        Kind("recorded", material / "answers.csv", slim.RecordedAnswers, text=True),
        Kind("list", material / "bad-images.csv", faults_in, text=True),
        Kind("checkpoint", material / "model.pt", read_state_dict),
        Kind("safetensors", run / "01-reference/model.safetensors", read_state_dict),
        Kind("sqlite", run / "04-judgements/annotations.db", store),
        Kind(
            "model.json",
            run / "01-reference/model.json",
            beside(run / "01-reference/model.json", slim.Classifier.load),
            json=True,
        ),
    ]
    made += [
        Kind(f"answers {to}", material / f"answers.{to}", answers(to), to != "csv", to == "csv")
        for to in ("csv", "json", "label-studio")
    ]
    made += [Kind(f"image {path.suffix}", path, image) for path in sorted(material.glob("photo.*"))]
    for stage in list(STAGES.values())[1:]:
        own = run / stage.folder
        made.append(Kind("manifest", own / "manifest.json", state(stage.folder), json=True))
        made.append(Kind("record", own / "record.json", beside(own / "record.json", stage.record.load), json=True))
        files = sorted(own.glob("*.npy")) + sorted(own.glob("*.csv"))
        made += [
            Kind("array" if f.suffix == ".npy" else "table", f, beside(f, stage.record.load), text=f.suffix == ".csv")
            for f in files[:2]
        ]
    return [kind for kind in made if kind.source.exists()]


def slim_frame(paths: list[str]) -> Any:
    """A table of a few images in all splits."""
    import pandas as pd

    return pd.DataFrame(
        {
            "filename": paths,
            "y": [i % 2 for i in range(len(paths))],
            "split": [i % 3 if i else 0 for i in range(len(paths))],
        }
    )


def outcome(kind: Kind, path: Path) -> str:
    """How reading the file ends."""

    def late(*_: object) -> None:
        raise TimeoutError

    for number, timer, limit in _TIMERS:
        signal.signal(number, late)
        signal.setitimer(timer, limit)
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            kind.read(path)
    except slim.SlimError as error:
        return "named" if str(error) and "\n" not in str(error) else f"message of several lines: {error!r}"
    except TimeoutError:
        return "hang"
    except Exception as error:
        places = [
            f"{Path(f.filename).name}:{f.lineno}"
            for f in traceback.extract_tb(error.__traceback__)
            if "slim" in f.filename
        ]
        return f"traceback: {type(error).__name__}: {str(error)[:120]!r} at {places[-1] if places else '?'}"
    finally:
        for _, timer, _ in _TIMERS:
            signal.setitimer(timer, 0)
    return "success"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="kinds whose name starts so")
    parser.add_argument("--case", type=int, help="repeat one case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = options.folder / "run"
    if not run.exists():
        result = slim_run(run, small_data(options.folder / "data"))
        assert result.exit_code == 0, result.output
    every = [kind for kind in kinds(options.folder) if kind.name.startswith(options.only or "")]
    print(
        f"seed {options.seed}, {options.cases} cases, {len(every)} files of {len({kind.name for kind in every})} kinds"
    )
    whole = {kind.name: outcome(kind, kind.source) for kind in every}
    assert set(whole.values()) == {"success"}, whole
    counts: Counter[tuple[str, str]] = Counter()
    numbers = range(options.cases) if options.case is None else [options.case]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        for number in numbers:
            rng = random.Random(f"{options.seed}-{number}")
            kind = every[number % len(every)]
            path = Path(folder) / kind.source.name
            path.write_bytes(damaged(kind.source.read_bytes(), kind, rng))
            said = outcome(kind, path)
            counts[kind.name, said.partition(":")[0]] += 1
            if said not in ("success", "named"):
                print(f"{number}: {kind.name} ({kind.source.relative_to(options.folder)}): {said}", flush=True)
            path.unlink(missing_ok=True)
    endings = sorted({said for _, said in counts})
    print("kind".ljust(24), *(said.rjust(10) for said in endings))
    for name in sorted({name for name, _ in counts}):
        print(name.ljust(24), *(str(counts[name, said]).rjust(10) for said in endings))
    print("all".ljust(24), *(str(sum(counts[n, s] for n, s in counts if s == said)).rjust(10) for said in endings))


if __name__ == "__main__":
    main()
