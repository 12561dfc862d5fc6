import pytest
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.errors import UsageError
from lords_bench.suites.passages import evenly_spaced_passages
from lords_bench.suites.testbed.corpus import Document

LINES = st.text(st.sampled_from("abc ("), min_size=1, max_size=12)
TEXTS = st.lists(LINES, min_size=1, max_size=40).map(lambda lines: "".join(f"{line}\n" for line in lines))


def documents_of(texts: list[str]) -> list[Document]:
    # A number in every line tells where a passage stands.
    numbered = ["".join(f"{i} {line}" for i, line in enumerate(text.splitlines(keepends=True))) for text in texts]
    return [Document(name=str(number), text=text) for number, text in enumerate(numbered)]


@given(texts=st.lists(TEXTS, min_size=1, max_size=5), count=st.integers(1, 12), characters=st.integers(20, 120))
def test_passages_are_whole_lines_of_their_document_and_do_not_overlap(
    texts: list[str], count: int, characters: int
) -> None:
    documents = documents_of(texts)

    passages = evenly_spaced_passages(documents, count, characters)

    assert len(passages) <= count
    seen: dict[int, int] = {}
    for passage in passages:
        text = documents[passage.document].text
        start = text.find(passage.text, seen.get(passage.document, 0))
        assert start >= seen.get(passage.document, 0)
        assert start == 0 or text[start - 1] == "\n"
        assert passage.text.endswith("\n")
        assert len(passage.text) <= characters
        seen[passage.document] = start + len(passage.text)


def test_passages_are_spread_over_all_documents() -> None:
    documents = [Document(name=str(i), text="line of text\n" * 100) for i in range(4)]

    passages = evenly_spaced_passages(documents, 8, 100)

    assert [passage.document for passage in passages] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {len(passage.text) for passage in passages} == {91}


def test_a_document_shorter_than_a_passage_is_taken_whole() -> None:
    passages = evenly_spaced_passages([Document(name="a", text="one\ntwo\n")], 1, 100)

    assert [passage.text for passage in passages] == ["one\ntwo\n"]


@pytest.mark.parametrize(("texts", "count"), [((), 3), (("",), 3), (("a\n",), 0)])
def test_no_text_or_no_passage_is_refused(texts: tuple[str, ...], count: int) -> None:
    documents = [Document(name="a", text=text) for text in texts]

    with pytest.raises(UsageError, match=f"{count} passages cannot be cut"):
        evenly_spaced_passages(documents, count, 10)
