"""Plain text as LaTeX: special characters are escaped, mathematical characters become commands."""

import re
import unicodedata

_SPECIAL = {c: rf"\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {"\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "|": "$|$"}
_MATH = {
    "∂": r"\partial ", "−": "-", "×": r"\times ", "·": r"\cdot ", "√": r"\surd ", "Σ": r"\Sigma ", "→": r"\to ",
    "≤": r"\le ", "≥": r"\ge ", "≪": r"\ll ", "½": r"\frac{1}{2}", "α": r"\alpha ", "β": r"\beta ", "κ": r"\kappa ",
    "λ": r"\lambda ", "η": r"\eta ", "σ": r"\sigma ", "‖": r"\|", "²": "^2", "³": "^3", "⁴": "^4",
    "₂": "_2", "ᵀ": r"^\top ",
}  # fmt: skip
_ACCENTS = {"\u0302": "hat", "\u0304": "bar", "\u0303": "tilde", "\u0307": "dot"}


def escape(text: str) -> str:
    r"""Return LaTeX that prints a text. Characters that are neither ASCII nor in the table stay unchanged.

    >>> print(escape("50 % of ∂²L/∂x̂²"))
    50 \% of $\partial ^2$L/$\partial \hat{x}^2$
    """
    accented = unicodedata.normalize("NFD", text)
    pieces = re.findall(rf"[^\W\d_][{''.join(_ACCENTS)}]|.", accented, re.DOTALL)
    return unicodedata.normalize("NFC", "".join(map(_escape_one, pieces)).replace("$$", ""))


def _escape_one(piece: str) -> str:
    character, accent = piece[0], piece[1:]
    if accent:
        return rf"$\{_ACCENTS[accent]}{{{character}}}$"
    if character in _MATH:
        return f"${_MATH[character]}$"
    return _SPECIAL.get(character, character)
