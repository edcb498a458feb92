"""The embedded corpus: what is prose, what leaks, and that its parts never meet."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import write

from tlm.data import sources
from tlm.data.sources import docstrings
from tlm.data.sources.docstring_text import Mask, fold, is_task, paragraphs
from tlm.errors import UserError
from tlm.study.sources import DocstringsSource

WORDS = st.text(st.characters(codec="utf-8"), max_size=80)
PROSE = "This paragraph {0} explains at some length how the {1} is used by others."


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two distributions, anaconda and boar, in a site folder of their own."""
    site = tmp_path / "site"
    for name in ("anaconda", "boar"):
        body = "\n".join(
            f'def f{i}():\n    """{PROSE.format(chr(97 + i % 26) * (i // 26 + 2), name)}"""' for i in range(60)
        )
        common = 'class Common:\n    """Both of the libraries share this one paragraph, word for word."""\n'
        write(
            site / name / "__init__.py",
            f'"""The {name.title()} library does things for everybody, np.array included."""\n',
        )
        write(site / name / "sub/code.py", body + "\n" + common)
        write(site / name / "tests/test_code.py", '"""This is a test module that nobody should ever read here."""')
        write(site / name / "_vendor/other.py", '"""This is a copy of another library that has another label."""')
        write(
            site / name / "template.py", '"""Broken {{ template }} with triple quotes in here"""\nclass {{ name }}:\n'
        )
        write(site / f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        write(site / f"{name}-1.0.dist-info/top_level.txt", name)
    use(site, monkeypatch)
    return site


def use(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    docstrings._distributions.cache_clear()
    docstrings._all_distributions.cache_clear()


def source(part: str, *libraries: str, **fields: object) -> DocstringsSource:
    return DocstringsSource.model_validate({"part": part, "libraries": libraries or ("anaconda", "boar"), **fields})


def test_task_is_labelled_and_masked_and_corpus_is_as_written(installed: Path) -> None:
    task, corpus = sources.read(source("task"), ""), sources.read(source("corpus"), "")
    assert task.label_names == ("anaconda", "boar") and corpus.label_names is None
    assert corpus.table.column_names == ["item_id", "text", "split"]
    for item_id, text, label in zip(*(task.table[c].to_pylist() for c in ("item_id", "text", "label")), strict=True):
        assert item_id.startswith(("anaconda:", "boar:")[label])
        assert "anaconda" not in text.lower() and "boar" not in text.lower() and "library" in text
    assert any("anaconda" in text for text in corpus.table["text"].to_pylist())
    texts = task.table["text"].to_pylist() + corpus.table["text"].to_pylist()
    assert not any("share this one" in t or "nobody" in t or "copy of" in t or "Broken" in t for t in texts)
    assert corpus.facts["files_not_parsed"] == 2 and corpus.facts["in_several"] == 1
    assert "anaconda" not in sys.modules
    ids = set(task.table["item_id"].to_pylist()) | set(corpus.table["item_id"].to_pylist())
    assert len(ids) == task.table.num_rows + corpus.table.num_rows
    assert ids & {"anaconda:__init__.py:<module>:0"} and any(i.startswith("boar:sub/code.py:f0:") for i in ids)


def test_texts_that_differ_only_by_a_name_have_no_certain_label(installed: Path) -> None:
    # Every f{i} of the fixture says the same of either library; some pairs fall in the task part together.
    def in_task(i: int, name: str) -> bool:
        return is_task(PROSE.format(chr(97 + i % 26) * (i // 26 + 2), name))

    pairs = sum(in_task(i, "anaconda") and in_task(i, "boar") for i in range(60))
    task = sources.read(source("task"), "")
    assert pairs > 0 and task.facts["same_after_masking"] == 2 * pairs
    texts = task.table["text"].to_pylist()
    assert len(set(map(fold, texts))) == len(texts)


def test_what_is_read_follows_from_versions_not_from_places(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sources.identity(source("task"), ""), sources.read(source("task"), "")
    assert before[0]["libraries"] == {"anaconda": {"anaconda": "1.0"}, "boar": {"boar": "1.0"}}
    assert sources.identity(source("task", "boar", "anaconda"), "") == before[0]
    assert sources.identity(source("corpus"), "") != before[0]
    assert sources.identity(source("task", min_words=9), "") != before[0]
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(installed, elsewhere)
    use(elsewhere, monkeypatch)
    after = sources.identity(source("task"), ""), sources.read(source("task", "boar", "anaconda"), "")
    assert after[0] == before[0] and after[1].table.equals(before[1].table)
    (elsewhere / "boar-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: boar\nVersion: 2.0\n")
    docstrings._distributions.cache_clear()
    assert sources.identity(source("task"), "") != before[0]


def test_what_cannot_be_read_is_a_user_error(installed: Path) -> None:
    for libraries, fragment in (
        (("boar", "nonesuch", "neither"), "Not installed: neither, nonesuch"),
        (("boar", "os.path"), "top-level"),
        (("boar", "json"), "No installed distribution provides json"),
    ):
        with pytest.raises(UserError, match=fragment):
            sources.preflight(source("corpus", *libraries), "")
    with pytest.raises(UserError, match="No task paragraph of 500 words"):
        sources.read(source("task", min_words=500), "")
    with pytest.raises(UserError, match="holds no item"):
        sources.read(source("corpus", min_words=500), "")
    assert sources.count_hint(source("corpus"), "") is None


def test_installed_names_map_to_their_distributions() -> None:
    versions = sources.identity(source("corpus", "sklearn", "numpy"), "")["libraries"]
    assert set(versions) == {"sklearn", "numpy"} and set(versions["sklearn"]) == {"scikit-learn"}


def test_prose_without_its_markup() -> None:
    text = """Return the `mean` of :class:`~a.b.Array` values, see
    `the guide <https://a.b>`_ for more.

    Parameters
    ----------
    x : array_like, shape (n,)
        The values that shall be averaged over all axes.
    axis : int
        Axis.

    :param y: the weights of each of the given values
    :rtype: int

    Args:
        size (`int`, *optional*): the number of values that are averaged
        name: what the result is called in the report

    >>> mean([1, 2, 3, 4, 5, 6, 7, 8, 9])
    this output of the example is not any prose

    .. note:: the result of this is never a negative number

    .. code-block:: python

        mean(this, is, code, and, not, prose, at, all)

        and still the code goes on for a while

    ```
    this is code in a fence and so it is not prose
    ```
    - an item of a list that is long enough to count

    1 + 2 = 3 ; 4 + 5 == 9 ; x[0] <= 12.5 ; {1: 2, 3: 4}
    """
    assert list(paragraphs(text, 6)) == [
        "Return the mean of a.b.Array values, see the guide for more.",
        "The values that shall be averaged over all axes.",
        "the weights of each of the given values",
        "the number of values that are averaged",
        "what the result is called in the report",
        "the result of this is never a negative number",
        "an item of a list that is long enough to count",
    ]


def test_every_spelling_of_a_name_is_masked() -> None:
    mask = Mask(["torch", "numpy", "sklearn", "mlflow", "datasets", "matplotlib"])
    for text in (
        "torch PyTorch TORCH Torch.x is_torch_available _torch torch_dtype (torch) TorchFunction 'pytorch'",
        "np.array numpy.ndarray NumPy NumPy's",
        "scikit-learn sklearn scikit_learn Scikit-Learn plt.plot pyplot",
        "MLflow MlflowClient mlflow-artifacts: Datasets",
    ):
        left = mask(text).lower()
        assert not any(
            name in left for name in ("torch", "numpy", "np.", "sklearn", "scikit", "mlflow", "datasets", "plt")
        )
    assert mask("torchvision dataset nps np snp.array") == "torchvision dataset nps np snp.array"
    assert Mask([])("torch") == "torch"


@given(WORDS)
def test_masking_is_idempotent_and_keeps_other_text(text: str) -> None:
    mask = Mask(["torch", "numpy", "sklearn"])
    assert mask(mask(text)) == mask(text)
    if not any(name in text.lower() for name in ("torch", "numpy", "np.", "sci", "sklearn", "aten")):
        assert mask(text) == text


@given(WORDS)
def test_near_identical_texts_fall_on_the_same_side(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    variant = " ".join(text.lower().split()) + " ."
    if fold(variant) == fold(text):
        assert is_task(variant) == is_task(text)
    assert is_task(f"item 12 {text}") == is_task(f"Item 7, {text}")


@given(st.text(st.sampled_from("ab \n\t:.`>-=*|_(){}12"), max_size=200), st.integers(1, 4))
def test_any_docstring_gives_single_lines_of_enough_words(text: str, min_words: int) -> None:
    for paragraph in paragraphs(text, min_words):
        assert "\n" not in paragraph and len(paragraph.split()) >= min_words and paragraph == paragraph.strip()


def test_a_quarter_is_task() -> None:
    share = (
        sum(is_task(f"the {chr(97 + i % 26)} of {chr(97 + i // 26 % 26)}{chr(97 + i // 676)}") for i in range(4000))
        / 4000
    )
    assert 0.22 < share < 0.28


@pytest.mark.slow
def test_the_parts_of_real_libraries_share_nothing_even_with_other_lists() -> None:
    corpus = sources.read(source("corpus", "networkx", "prefect"), "")
    task = sources.read(source("task", "prefect", "sqlalchemy"), "")
    again = sources.read(source("task", "prefect", "sqlalchemy"), "")
    assert task.table.equals(again.table)
    assert not set(corpus.table["item_id"].to_pylist()) & set(task.table["item_id"].to_pylist())
    raw = {fold(t) for t in corpus.table["text"].to_pylist()}
    assert not raw & {fold(t) for t in task.table["text"].to_pylist()}
    assert not any("prefect" in t.lower().split() for t in task.table["text"].to_pylist())
