"""docs/contract.md tells what the files of protos/ say."""

from scripts import contract_page


def test_the_page_is_what_make_contract_docs_writes() -> None:
    assert contract_page.PAGE.read_text(encoding="utf-8") == contract_page.page(), (
        "run: make contract-docs"
    )
