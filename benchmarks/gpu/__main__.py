"""Train at the paper's scale on one GPU, stage by stage, each within a time that it keeps.

    python -m benchmarks.gpu BUNDLE --out FOLDER --stages ceilings checks throughput headline committee curve decoders

BUNDLE is what `python -m benchmarks.gpu.prepare` wrote. Needs torch, transformers, pydantic, pyarrow, pandas and scipy: no
orchestrator, no tracking, no network. Run it again to go on: what is in --home is kept, and finished work is found there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.ceilings import ceilings
from benchmarks.gpu.checks import checks
from benchmarks.gpu.decoders import decoders
from benchmarks.gpu.headline import committee, curve, headline
from benchmarks.gpu.preparing import Preparing
from benchmarks.gpu.profile import profile
from benchmarks.gpu.session import FIGURES, Session, free, is_encoder
from benchmarks.gpu.table import table
from benchmarks.gpu.throughput import throughput
from tlm.errors import UserError
from tlm.study.architecture import VARIANTS
from tlm.training.captured import Engine

LIMITS = {
    "ceilings": 30.0,
    "checks": 60.0,
    "throughput": 150.0,
    "headline": 540.0,
    "committee": 540.0,
    "curve": 540.0,
    "decoders": 300.0,
    "profile": 60.0,
}
"""Seconds of each stage, in the order in which they run."""
CACHE = "compile-cache.bin"


def engine_of(text: str) -> Engine | None:
    """`varlen,fused,captured,overlapped`, or `auto`. Raises ValueError for a word that is none of these."""
    if text == "auto":
        return None
    words = text.split(",")
    flags = ("compiled", "captured", "overlapped", "fused")
    if words[0] not in ("rectangle", "varlen") or not set(words[1:]) <= set(flags):
        raise ValueError(f"unknown engine {text!r}: rectangle or varlen, then any of {', '.join(flags)}")
    return Engine(words[0], **{flag: flag in words[1:] for flag in flags})  # type: ignore[arg-type]


def limit_of(text: str) -> tuple[str, float]:
    """`headline=300`. Raises ArgumentTypeError, which argparse tells."""
    name, _, value = text.partition("=")
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if name not in LIMITS or not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE=SECONDS with one of {', '.join(LIMITS)}")
    return name, seconds


def _stages(session: Session, given: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    return {
        "ceilings": lambda: session.keep("ceilings", ceilings(session)),
        "checks": lambda: session.keep("checks", checks(session)),
        "throughput": lambda: throughput(session, tuple(given.variants)),
        "headline": lambda: headline(session, reserve=given.reserve),
        "committee": lambda: committee(session, reserve=given.reserve),
        "curve": lambda: curve(session, reserve=given.reserve),
        "decoders": lambda: decoders(session),
        "profile": lambda: session.keep("profile", profile(session)),
    }


def run(session: Session, given: argparse.Namespace) -> int:
    """Every wanted stage; one that fails is reported and does not stop those after it. The number that failed."""
    failed = 0
    limits = {**LIMITS, **dict(given.limit)}
    ours = any(map(is_encoder, session.steps_of("pretrain")))
    wanted = given.stages or [name for name in LIMITS if (name != "decoders") == ours]
    for name, work in _stages(session, given).items():
        if name not in wanted:
            continue
        start = time.monotonic()
        session.deadline = min(start + limits[name], given.end)
        session.say(f"--- {name}: {session.left:.0f} s")
        try:
            work()
        except Exception as error:
            failed += 1
            traceback.print_exc()
            session.keep("failed", {name: f"{type(error).__name__}: {error}"[:1000]})
        session.keep("seconds", {name: time.monotonic() - start})
        free(session.device)
    return failed


def load_cache(place: Path | None, say: Callable[[str], None]) -> None:
    """Kernels that an earlier call compiled."""
    if place is not None and place.exists():
        try:
            torch.compiler.load_cache_artifacts(place.read_bytes())
            say(f"compiled kernels of {place} are known")
        except Exception as error:
            say(f"{place} is of no use here: {error}")


def save_cache(place: Path, say: Callable[[str], None]) -> None:
    """What was compiled, for a later call on the same kind of device."""
    try:
        found = torch.compiler.save_cache_artifacts()
    except Exception as error:
        say(f"compiled kernels are not kept: {error}")
        return
    if found is not None and len(found[0]) < 15 << 20:
        place.write_bytes(found[0])
        say(f"compiled kernels: {len(found[0]) / 2**20:.1f} MiB")


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 if a stage failed, or 2 if the input was at fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="figures and archives, to be taken home")
    parser.add_argument("--home", type=Path, default=Path("gpu-home"), help="what is kept from call to call")
    every = "default: decoders for a bundle of decoders, otherwise all the others"
    parser.add_argument("--stages", nargs="+", choices=tuple(LIMITS), help=every)
    parser.add_argument("--limit", nargs="*", type=limit_of, default=[], metavar="STAGE=SECONDS")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of everything together")
    parser.add_argument("--reserve", type=float, default=90.0, help="seconds kept for fine-tuning")
    parser.add_argument("--engine", default="auto", help="e.g. varlen,fused,captured,overlapped")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["bert6", "bert1", "bert1a"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, default=0, help="that prepare epochs ahead")
    parser.add_argument("--compile-cache", type=Path, help=f"a {CACHE} that an earlier call wrote")
    parser.add_argument("--made", nargs="*", type=Path, default=[], help="archives of earlier calls elsewhere")
    parser.add_argument("--commit", default="", help="of the code, for the records, where there is no git")
    given = parser.parse_args(arguments)
    given.end = time.monotonic() + given.seconds
    torch.set_num_threads(
        1
    )  # as trainings of `tlm run` have: many that wait for each other are slow in small operations
    torch._dynamo.config.recompile_limit = 128
    torch._dynamo.config.accumulated_recompile_limit = 1024
    try:
        engine = engine_of(given.engine)
        with Preparing(given.processes) as preparing:
            session = Session(
                given.bundle, given.home, given.out, given.device, preparing, engine, given.commit, tuple(given.made)
            )
            load_cache(given.compile_cache, session.say)
            failed = run(session, given)
            if given.device == "cuda":
                save_cache(given.out / CACHE, session.say)
            print(table(session.figures))
            print(json.dumps({"failed": session.figures.get("failed", {}), "figures": str(given.out / FIGURES)}))
    except (UserError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
