"""Small data in the layouts of the public sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shell import real_data_root
from source_files import write, write_parquet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with every local layout."""
    root = tmp_path / "data"
    for shard in (1, 0):  # written out of order: read by name
        write_parquet(
            root / f"wikipedia/train-0000{shard}-of-00002.parquet",
            id=[f"{shard}-0", f"{shard}-1"],
            title=["a", "b"],
            text=[f"First of {shard} .", f"Second of {shard} ."],
        )
    write_parquet(root / "ag_news/train.parquet", text=["stocks fall", "team wins"], label=[2, 1])
    write_parquet(root / "ag_news/test.parquet", text=["rocket starts"], label=[3])
    write(root / "ag_news/labels.json", json.dumps(["World", "Sports", "Business", "Sci/Tech"]))
    write_parquet(root / "dbpedia_14/train.parquet", label=[0, 1], title=["T", "U"], content=[" A firm.", "A school."])
    write_parquet(root / "dbpedia_14/test.parquet", label=[1], title=["V"], content=["Another school."])
    write(root / "dbpedia_14/labels.json", json.dumps(["Company", "School"]))
    items = {"P9": [{"tokens": ["x", "borders", "y"]}], "P10": [{"tokens": ["a", "."]}, {"tokens": ["b"]}]}
    write(root / "few_rel/train_wiki.json", json.dumps(items))
    write(root / "few_rel/pubmed_unsupervised.json", json.dumps([{"tokens": ["one", "cell"], "h": [], "t": []}]))
    write(root / "few_rel/pid2name.json", json.dumps({"P10": ["video", "a description"]}))
    return root


@pytest.fixture
def real_root() -> str:
    """The real data, if there is any."""
    place = real_data_root()
    if not place:
        pytest.skip("TLM_DATA_ROOT is not set")
    return place
