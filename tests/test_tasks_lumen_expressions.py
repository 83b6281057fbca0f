"""Vocabulary, generator, grammar, the published data set to the letter, and what an expression implies."""

import json
import math
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scionwood.tasks.lumen import implied, synthetic
from scionwood.tasks.lumen.generator import HIGHEST, LOWEST, Generator, draw, first_weights, odds, sharpened
from scionwood.tasks.lumen.grammar import Expression, all_texts, expressions, in_notation, lark, read, sequences, text_of
from scionwood.tasks.lumen.shapes import SHAPES
from scionwood.tasks.lumen.trajectories.published import classify
from scionwood.tasks.lumen.vocabulary import (AFFINITY, PATTERN_WEIGHTS, PATTERNS, TOKEN_WORDS, TOKENS, WORDS, coherence, pattern_of,
                                              plain, spelled, words_of)

SHARED = Path(os.environ.get("SCION_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data" / "lumen" / "training_v2"
NOTATIONS = ("rows", "card")


def test_the_vocabulary_is_whole():
    assert len(TOKENS) == len(set(TOKENS)) == 15 and len(PATTERNS) == 5 and len(WORDS) == len(set(WORDS)) == 16
    assert tuple(AFFINITY) == tuple(PATTERN_WEIGHTS) == SHAPES
    assert {t for fit in AFFINITY.values() for t in fit} <= set(TOKENS) == set(TOKEN_WORDS)
    assert {w for words in TOKEN_WORDS.values() for w in words} <= set(WORDS)
    assert all(sum(w) == pytest.approx(1) for w in PATTERN_WEIGHTS.values())
    assert all(plain(spelled(t)) == t for t in TOKENS)


@pytest.mark.parametrize("tokens, pattern, words", [
    (["stillness"], "SINGLE", "quiet"),
    (["warmth", "warmth"], "REPETITION", "warm feel"),
    (["warmth"] * 3, "REPETITION", "warm feel"),
    (["questioning", "questioning"], "REPETITION", "why what"),
    (["holding", "resonance"], "PAIR", "here with"),
    (["questioning", "holding"], "PAIR", "why here"),
    (["resonance", "questioning"], "QUESTION", "with why"),
    (["holding", "return", "curiosity"], "QUESTION", "here warm why"),
    (["stillness", "deep_listening", "return"], "TRIPLE", "quiet sense here"),
])
def test_pattern_and_words_follow_from_the_tokens(tokens, pattern, words):
    assert pattern_of(tokens) == pattern
    assert words_of(tokens) == words.split()


def test_coherence_is_the_share_that_fits():
    assert coherence("convergence", ["stillness", "holding"]) == 0.5
    assert coherence("convergence", []) is None
    with pytest.raises(ValueError):
        pattern_of([])


@pytest.mark.parametrize("split, name", [("train", "train"), ("dev", "val"), ("test", "test")])
def test_the_published_files_are_regenerated_to_the_letter(split, name):
    path = SHARED / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the published rows are not here ({path}); SCION_SHARED names the folder that holds them")
    published = json.loads(path.read_text("utf-8"))
    made = [row.value() for row in synthetic.training_v2(split)]
    assert len(made) == len(published)
    assert made == published


def test_every_synthetic_trajectory_has_its_shape_and_todays_void_keeps_to_the_device():
    for shape in SHAPES:
        for index in (0, 199, 5000):
            points = synthetic.trajectory(shape, synthetic.seed_of(shape, index))
            assert len(points) == 20 and classify(points) == shape
    today = synthetic.trajectory("void_rising", 7, synthetic.VOID_TODAY)
    assert max(p.V for p in today) <= 0.305 < max(p.V for p in synthetic.trajectory("void_rising", 7))


def test_odds_are_what_drawing_comes_to():
    n, rng = 20_000, random.Random(5)
    for shape in ("drift_dissonance", "convergence"):
        exact = odds(shape)
        assert sum(exact.values()) == pytest.approx(1)
        assert set(exact) == set(sequences())
        counted = Counter(tuple(draw(rng, PATTERN_WEIGHTS[shape], first_weights(shape))) for _ in range(n))
        assert set(counted) <= set(exact)
        for tokens, p in sorted(exact.items(), key=lambda item: -item[1])[:20]:
            assert abs(counted[tokens] / n - p) < 5 * math.sqrt(p / n)


def test_sharpening_raises_odds_to_a_power():
    assert sharpened([3, 1], 0.5) == pytest.approx([0.9, 0.1])
    assert sharpened([0.4, 0.3, 0.3], 1.0) == pytest.approx([0.4, 0.3, 0.3])
    assert sharpened([1, 0], 0.3) == [1.0, 0.0]
    assert sum(sharpened([3, 1], 0.001)) == pytest.approx(1)  # no overflow


def test_feedback_moves_weights_and_keeps_them_in_bounds():
    g = Generator(1)
    g.feedback("convergence", ["stillness", "warmth"], 1.0)
    assert g.weights["convergence"][TOKENS.index("stillness")] == pytest.approx(3.08)
    assert g.weights["convergence"][TOKENS.index("warmth")] == pytest.approx(1.08)
    assert g.weights["settled_presence"] == first_weights("settled_presence")
    for _ in range(300):
        g.feedback("convergence", ["stillness"], 1.0)
        g.feedback("convergence", ["warmth"], 0.0)
    assert g.weights["convergence"][TOKENS.index("stillness")] == HIGHEST
    assert g.weights["convergence"][TOKENS.index("warmth")] == LOWEST
    said = Counter(t for _ in range(500) for t in g.generate("convergence"))
    assert said["stillness"] > 10 * said["warmth"]
    with pytest.raises(ValueError, match="0 to 1"):
        g.feedback("convergence", ["stillness"], 1.1)


# -- the grammar -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matchers(tokenizer):
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    vocabulary = from_tokenizer(tokenizer)
    return {n: LLMatcher(vocabulary, LLMatcher.grammar_from_lark(lark(n))) for n in NOTATIONS}


def admits(matcher, tokenizer, text: str) -> bool:
    walk, ids = matcher.deep_copy(), tokenizer.encode(text, add_special_tokens=False)
    return walk.try_consume_tokens(ids) == len(ids) and walk.is_accepting()


@pytest.mark.parametrize("notation", NOTATIONS)
def test_the_grammar_admits_every_legal_text(notation, matchers, tokenizer):
    assert not matchers[notation].get_error()
    texts = all_texts(notation)
    assert len(texts) == {"rows": 15 + 15 + 15 * 14 + 15 * 14 * 13, "card": 15 * 3 + 13 * 14 + 13 * 14 * 13}[notation]
    for text in texts[::7]:
        assert admits(matchers[notation], tokenizer, text)
        assert read(text, notation).strict and text_of(read(text, notation), notation) == text


ILLEGAL_ROWS = [
    "EISV_TOKENS: ~warmth~ ~warmth~ ~warmth~\nLUMEN_TOKENS: warm feel\nPATTERN: REPETITION",  # the card's notation
    "EISV_TOKENS: ~threshold~?\nLUMEN_TOKENS: sense\nPATTERN: QUESTION",
    "EISV_TOKENS: ~stillness~\nLUMEN_TOKENS: quiet\nPATTERN: PAIR",  # the pattern contradicts
    "EISV_TOKENS: ~stillness~\nLUMEN_TOKENS: cold\nPATTERN: SINGLE",  # another word
    "EISV_TOKENS: ~holding~ ~return~ ~holding~\nLUMEN_TOKENS: here warm with\nPATTERN: TRIPLE",  # a token comes back
    "EISV_TOKENS: " + " ".join(["~warmth~"] * 40) + "\nLUMEN_TOKENS: cold\nPATTERN: SINGLE",  # what the lax rule lets pass
    "EISV_TOKENS:\nLUMEN_TOKENS:\nPATTERN: SINGLE",
]
ILLEGAL_CARD = ["~warmth~ ~warmth~", "~holding~ ~curiosity~", "~holding~ ~return~ ~questioning~", "~holding~ ~return~?", "~stillness~ ",
                "stillness", "~joy~", "", "~stillness~~return~", "~holding~ ~return~ ~holding~"]


@pytest.mark.parametrize("notation, text", [("rows", t) for t in ILLEGAL_ROWS] + [("card", t) for t in ILLEGAL_CARD])
def test_grammar_and_reader_refuse_the_same(notation, text, matchers, tokenizer):
    assert not admits(matchers[notation], tokenizer, text)
    found = read(text, notation)
    assert isinstance(found, str) or not found.strict or text != text.strip()  # outer blanks alone are forgiven in reading


def test_lax_reading_is_the_published_one():
    assert read(ILLEGAL_ROWS[5], "rows") == Expression(("warmth",) * 40, "SINGLE", False)
    assert read(ILLEGAL_ROWS[6], "rows") == Expression((), "SINGLE", False)
    assert read(ILLEGAL_ROWS[1], "rows") == "'~threshold~?' is no token"
    assert read("EISV_TOKENS: ~return~\nPATTERN: SINGLE", "rows") == "no line LUMEN_TOKENS"
    assert read("EISV_TOKENS: ~return~\nLUMEN_TOKENS: hello\nPATTERN: SINGLE", "rows") == "'hello' is no word of the device"
    assert read("EISV_TOKENS: ~return~\nLUMEN_TOKENS: here\nPATTERN: DUO", "rows") == "'DUO' is no pattern"
    assert read("~holding~ ~curiosity~", "card") == Expression(("holding", "curiosity"), "QUESTION", False)


@given(st.text(alphabet="~? :EISVTOKNLUMPATR\nabcdefghilmnorstuw_", max_size=80), st.sampled_from(NOTATIONS))
def test_anything_can_be_read(text, notation):
    found = read(text, notation)
    assert isinstance(found, (str, Expression))
    if isinstance(found, Expression):
        assert set(found.tokens) <= set(TOKENS) and found.pattern in PATTERNS
        assert found.strict == (text.strip() in expressions(notation))


def test_the_card_says_repetition_three_times_and_asks_with_a_mark():
    assert text_of(in_notation(("warmth", "warmth"), "card"), "card") == "~warmth~ ~warmth~ ~warmth~"
    assert text_of(in_notation(("threshold", "curiosity"), "card"), "card") == "~threshold~?"
    assert text_of(in_notation(("holding", "return", "questioning"), "card"), "card") == "~holding~?"


# -- what an expression implies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notation", NOTATIONS)
def test_telling_expressions_imply_their_shape_and_no_other(notation):
    seen: dict = {}
    for shape in SHAPES:
        told = implied.telling_odds(shape, notation)
        assert sum(told.values()) == pytest.approx(1) and len(told) >= 20
        for expression in told:
            assert implied.implied(expression, notation) == shape
            assert seen.setdefault(expression, shape) == shape
            assert all(implied.rule_odds(shape, notation)[expression] > implied.rule_odds(s, notation).get(expression, 0)
                       for s in SHAPES if s != shape)
        plain = implied.plainest(shape, notation)
        assert told[plain] == pytest.approx(max(told.values()))
    assert len({implied.plainest(s, notation).tokens[0] for s in SHAPES}) == 9  # one token decides
    rng = random.Random(3)
    assert all(implied.draw_telling(rng, s, notation) in implied.telling_odds(s, notation) for s in SHAPES for _ in range(5))


def test_labels_of_the_rules_tell_little_of_their_shape():
    assert implied.implied(Expression(("stillness",), "SINGLE"), "rows") is None  # settled and convergence tie
    assert implied.implied(Expression(("holding",), "SINGLE"), "rows") == "settled_presence"
    for notation in NOTATIONS:
        rng, right, n = random.Random(1), 0, 400
        for shape in SHAPES:
            for _ in range(n):
                tokens = tuple(draw(rng, PATTERN_WEIGHTS[shape], first_weights(shape)))
                right += implied.implied(in_notation(tokens, notation), notation) == shape
        assert right / (n * len(SHAPES)) == pytest.approx(implied.recall_of_rules(notation), abs=0.03)
        assert implied.recall_of_rules(notation) < 0.3


