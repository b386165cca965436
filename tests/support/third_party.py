"""A driver from elsewhere, as an installed package brings it."""

from pathlib import Path


def install(folder: Path, scheme: str, source: str) -> dict[str, str]:
    """Puts a package below ``folder`` whose driver for ``scheme`` is opened by the function
    ``open_store`` of ``source``; returns the environment in which a broker finds it."""
    packages = folder / "packages"
    info = packages / f"{scheme}_store-1.dist-info"
    info.mkdir(parents=True)
    (packages / f"{scheme}_store.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}-store\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[towline_broker.drivers]\n{scheme} = {scheme}_store:open_store\n"
    )
    return {"PYTHONPATH": str(packages)}
