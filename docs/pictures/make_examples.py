"""Make examples.jpg: the example photographs, and below each its overlay.

Run `python run.py predict_examples` first, then `python docs/pictures/make_examples.py`.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "SALICON"
HEIGHT, GAP, QUALITY = 170, 6, 88


def main() -> None:
    """Put the pictures of the folder side by side."""
    columns = []
    for path in sorted((EXAMPLES / "images").iterdir()):
        pair = [Image.open(p).convert("RGB") for p in (path, EXAMPLES / "overlay" / path.name)]
        width = round(HEIGHT * pair[0].width / pair[0].height)
        columns.append([p.resize((width, HEIGHT), Image.Resampling.LANCZOS) for p in pair])
    total = sum(top.width for top, _ in columns) + GAP * (len(columns) - 1)
    sheet = Image.new("RGB", (total, 2 * HEIGHT + GAP), "white")
    left = 0
    for top, bottom in columns:
        sheet.paste(top, (left, 0))
        sheet.paste(bottom, (left, HEIGHT + GAP))
        left += top.width + GAP
    sheet.save(Path(__file__).with_name("examples.jpg"), quality=QUALITY)


if __name__ == "__main__":
    main()
