"""CLIP tokens against a second writing of the original tokenizer's rules, on ten thousand prompts.

The rules (OpenAI's CLIP, which open_clip and so HPSv2 kept): mend the text with ftfy, undo HTML escapes twice, strip, collapse white space,
lower the case; split into words by one pattern; write each word in bytes; merge the pair of lowest rank until none is left.
"""

from __future__ import annotations

import html
import random
import re
from functools import cache
from itertools import pairwise

import ftfy
import regex

from refine.evals import clip_text

WORDS = re.compile(r"\s+")
PATTERN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)

PLAIN = """a red cube left of small blue sphere photo portrait of an old man's hands it's don't we're oil painting trending on artstation 8k
uhd masterpiece, best quality (highly:1.2) [detailed] {style} f/1.8 50mm iso-100 sci-fi co-op #art @user e.g. 3/4 view -- ar 16:9""".split()
ODD = [
    "“curly”", "<3", "<b>", "‘single’", "it’s", "&amp;", "&amp;amp;", "&lt;b&gt;", "&#39;s", "&eacute;", "e&#769;",
    "ï¬\x81sh", "cafÃ©", "â€œmojibakeâ€\x9d", "ｆｕｌｌ ｗｉｄｔｈ", "ﬁgure", "ﬂow", "…", "—", "naïve", "e\u0301",
    "Ångström", "A\u030a", "İstanbul", "straße", "ΣΊΣΥΦΟΣ", "ǅ", "日本語", "東京タワー", "한국어", "город", "مدينة",
    "שלום", "हिन्दी", "ไทย", "👩‍🚀", "🙂", "❤️", "🇫🇷", "½", "²", "Ⅷ", "①", "\u00a0", "\u200b", "\u200d", "\ufeff",
    "\u2028", "\t", "\n", "\r\n", "\x1b[31m", "\x00", "x" * 40, "''''", "s's's", "don''t", "ALL-CAPS", "CamelCase",
    "a_b_c", "http://x.y/z?q=1&amp;r=2", "C++", "№5", "¿qué?", "ﷺ", "K", "Å",
]  # fmt: skip


@cache
def ranks() -> dict[tuple[str, str], int]:
    lines = clip_text.MERGES.read_text(encoding="utf-8").splitlines()
    return {(left, right): k for k, (left, right) in enumerate(line.split() for line in lines)}


@cache
def vocabulary() -> dict[str, int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + k) for k in range(256 - len(printable))]
    tokens = [*letters, *(one + "</w>" for one in letters), *(left + right for left, right in ranks())]
    return {token: k for k, token in enumerate(tokens)}


@cache
def alphabet() -> dict[int, str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + k) for k, byte in enumerate(rest)}


@cache
def merged(word: str) -> tuple[str, ...]:
    parts = [alphabet()[byte] for byte in word.encode("utf-8")]
    parts[-1] += "</w>"
    while len(parts) > 1:
        rank, place = min((ranks().get(pair, 10**9), k) for k, pair in enumerate(pairwise(parts)))
        if rank == 10**9:
            break
        pair = (parts[place], parts[place + 1])
        joined, k = [], 0
        while k < len(parts):
            both = tuple(parts[k : k + 2]) == pair
            joined.append("".join(pair) if both else parts[k])
            k += 2 if both else 1
        parts = joined
    return tuple(parts)


def by_the_rules(prompt: str) -> list[int]:
    """Start, text, end; at most 77, and still closed by end."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    text = WORDS.sub(" ", text).strip().lower()
    ids = [vocabulary()[token] for word in PATTERN.findall(text) for token in merged(word)]
    return [49406, *ids[:75], 49407]


def prompts(count: int) -> list[str]:
    """Everyday prompts, most of them with something that an everyday tokenizer trips over."""
    dice = random.Random(11)
    made = []
    for _ in range(count):
        words = [dice.choice(ODD if dice.random() < 0.25 else PLAIN) for _ in range(dice.randint(1, 30))]
        made.append("".join(word + dice.choice(["", " ", " ", " ", "  ", ", "]) for word in words))
    return made


def test_ten_thousand_prompts_have_the_original_tokens() -> None:
    texts = prompts(10_000)
    tokenizer = clip_text.original(clip_text.openai_tokenizer())
    rows = clip_text.token_ids(tokenizer, [clip_text.clean(text) for text in texts], 77)
    wrong = [text for text, row in zip(texts, rows.tolist(), strict=True) if [*by_the_rules(text), *[0] * 77][: len(row)] != row]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, such as {wrong[:5]}"


def test_cleaning_is_needed() -> None:
    """Without it the check above would fail, so it can."""
    texts = prompts(300)
    rows = clip_text.token_ids(clip_text.openai_tokenizer(), texts, 77)
    assert any([*by_the_rules(text), *[0] * 77][: len(row)] != row for text, row in zip(texts, rows.tolist(), strict=True))
