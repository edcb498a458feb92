"""`tlm generate`: prompts in, texts out, one a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from flows.predicting import warn_of_dry_runs
from flows.terminal import printable
from tlm.artifacts.store import ArtifactStore
from tlm.inference.resolve import find_decoder
from tlm.machine.runtime import Runtime


def generate_in_terminal(
    model: str, prompts: Sequence[str], runtime: Runtime, console: Console, errors: Console, **asked: Any
) -> None:
    """Print a text for each prompt, prompt included; an ellipsis ends what the model did not end itself.

    Args:
        asked: arguments of `tlm.inference.generation.Writer.write`.

    Raises:
        UserError: for bad input, before the model is loaded as far as its record tells.
    """
    store = ArtifactStore(runtime.artifacts)
    ref = find_decoder(store, model)
    device = runtime.torch_device()
    from tlm.inference.files import check_texts
    from tlm.inference.generation import Writer

    check_texts([prompt for prompt in prompts if prompt], "--prompt")
    warn_of_dry_runs(store, [ref], errors)
    for written in Writer.load(store, ref, device).write(prompts, **asked):
        line = " ".join(written.text.split()) + ("" if written.ended else " …")
        console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
