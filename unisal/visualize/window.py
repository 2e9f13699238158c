"""A window that shows pictures as they arrive."""

from __future__ import annotations

from PIL import Image

from unisal.errors import UserError
from unisal.types import RGB

TITLE = "UNISAL"
CLOSING_KEYS = ("<Escape>", "q")


class Window:
    """Shows pictures in a Tk window. Escape, q and its button close it.

    Raises:
        UserError: Tk is not installed, or there is no screen.
    """

    def __init__(self) -> None:
        try:
            import tkinter

            self._root = tkinter.Tk(className=TITLE)
        except (ImportError, RuntimeError) as error:
            raise UserError(f"no window can be shown: Tk is missing ({error})") from None
        except tkinter.TclError as error:
            raise UserError(f"no window can be shown: {error}") from None
        self._root.title(TITLE)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._open = True
        self._picture: object = None
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in CLOSING_KEYS:
            self._root.bind(key, lambda _: self.close())

    def is_open(self) -> bool:
        """Handle user input, and return whether the window is still open."""
        if self._open:
            self._root.update()
        return self._open

    def show(self, rgb: RGB, title: str) -> None:
        """Show a picture `[H, W, 3] uint8`, and a text in the window's title."""
        from PIL import ImageTk

        if not self._open:
            return
        picture = ImageTk.PhotoImage(Image.fromarray(rgb), master=self._root)
        self._label.configure(image=picture)  # type: ignore[call-overload]
        self._picture = picture  # Tk does not keep it alive
        self._root.title(f"{TITLE}: {title}")
        self._root.update()

    def close(self) -> None:
        """Close the window, if it is open."""
        if self._open:
            self._open = False
            self._root.destroy()
