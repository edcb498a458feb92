"""FewRel (Han et al. 2018; 2.0: Gao et al. 2019), relation classification; text is the tokens joined by a space.

Local: the JSON files of https://github.com/thunlp/FewRel, relation id → list of {tokens, h, t}; a file that is a list
of {tokens, ...} has no labels and serves as a corpus. pid2name.json beside them gives names to Wikidata ids.
Hub: https://huggingface.co/datasets/thunlp/few_rel holds a loading script, which `datasets` no longer runs; its
automatic Parquet conversion (branch refs/convert/parquet) has default/<file stem>/0000.parquet with relation, tokens,
head, tail and names. No commit of that branch is known to be kept, so the one that was read is in `facts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.data.sources import hub_access
from tlm.data.sources.base import Loaded, Progress, confine, digests, read_json, require, require_columns, shown
from tlm.data.sources.values import known_names
from tlm.errors import UserError

if TYPE_CHECKING:
    from tlm.study.sources import FewRelSource

_NAMES = "pid2name.json"


def identity(source: FewRelSource, data_root: str) -> dict[str, Any]:
    """Hub: repository, revision and file. Local: digests of the data and, if present, of the relations' names."""
    if source.origin == "hub":
        return {"kind": "few_rel", "repo": source.repo, "revision": source.revision, "file": source.file}
    return {"kind": "few_rel", "sha256": digests(_places(source, data_root))}


def count_hint(source: FewRelSource, data_root: str) -> int | None:
    """Not known without parsing."""
    return None


def read(source: FewRelSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """One pool; label = index of the relation in the sorted relation ids. item_id is relation:row, or all-00000:row.

    Raises:
        UserError: files missing, bad JSON (file and line), an item without tokens, nothing to read, Hub unreachable.
    """
    result = _read_hub(source) if source.origin == "hub" else _read_local(source, data_root)
    if progress is not None:
        progress(1, 1)
    return result


def _places(source: FewRelSource, data_root: str) -> dict[str, Path]:
    files = {"data": f"{source.path}/{source.file}"}
    if confine(data_root, f"{source.path}/{_NAMES}").is_file():
        files["names"] = f"{source.path}/{_NAMES}"
    return require(data_root, files)


def _read_local(source: FewRelSource, data_root: str) -> Loaded:
    places = _places(source, data_root)
    name = shown(data_root, places["data"])
    content = read_json(places["data"], name)
    if isinstance(content, list):
        return _assemble({None: content}, {}, name)
    if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
        raise UserError(
            f"{name}: neither relation id → list of items nor a list of items.",
            "Use one such as train_wiki.json.",
        )
    known = read_json(places["names"], shown(data_root, places["names"])) if "names" in places else {}
    if not isinstance(known, dict):
        raise UserError(f"{source.path}/{_NAMES}: not a JSON object.", 'Such as {"P10": ["video", "what it says"]}.')
    names = {pid: str(entry[0]) for pid, entry in known.items() if isinstance(entry, list) and entry and entry[0]}
    return _assemble(content, names, name)


def _read_hub(source: FewRelSource) -> Loaded:
    file = f"default/{Path(source.file).stem}/0000.parquet"
    table, _, commit = hub_access.load(source.repo, source.revision, split="train", data_files=[file])
    require_columns(("relation", "tokens"), table.column_names, f"{source.repo}/{file}")
    relations = table["relation"].to_pylist()
    tokens = table["tokens"].to_pylist()
    labels = table["names"].to_pylist() if "names" in table.column_names else [None] * len(relations)
    content: dict[str | None, list[Any]] = {}
    names = {}
    for relation, words, label in zip(relations, tokens, labels, strict=True):
        content.setdefault(relation or None, []).append({"tokens": words})
        if relation and label and label[0]:
            names[relation] = label[0]
    return _assemble(content, names, f"{source.repo}/{file}", {"commit": commit})


def _assemble(
    content: dict[str | None, list[Any]], names: dict[str, str], file: str, facts: dict[str, int | str] | None = None
) -> Loaded:
    from tlm.data.sources.table import loaded, part

    labelled = None not in content
    if not labelled and len(content) > 1:
        raise UserError(f"{file}: some items have no relation.", "Use a file in which all or none have one.")
    relations = sorted(content, key=lambda relation: relation or "")
    parts = []
    for index, relation in enumerate(relations):
        items = content[relation]

        def where(row: int, relation: str | None = relation) -> str:
            return f"{file}, {f'relation {relation}, ' if relation else ''}item {row + 1}"

        texts = [_text(item, where, row) for row, item in enumerate(items)]
        if texts:
            indices = [index] * len(items) if labelled else None
            parts.append(part("all", texts, where, indices=indices, prefix=relation or "all-00000"))
    if not labelled:
        return loaded(parts, file, facts=facts)
    return loaded(parts, file, known_names((names.get(r, r) for r in relations if r is not None), file), facts)


def _text(item: Any, where: Any, row: int) -> str:
    tokens = item.get("tokens") if isinstance(item, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError(f"{where(row)}: no list of tokens.", 'Each item is an object such as {"tokens": ["a", "b"]}.')
    return " ".join(tokens)
