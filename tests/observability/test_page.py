"""docs/observability.md shows what a broker tells."""

from tests.observability.page import PAGE, block, parts


async def test_the_page_shows_every_metric_and_a_scrape_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, text in (await parts()).items():
        assert block(name, text) in page, f"{name}: `make figures-docs` writes it"
