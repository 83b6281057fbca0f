"""Labelled documents as conversations: each reader's form, and nothing raised by what has another."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from scionwood.pretraining.conversations import READERS, conversations

DOCUMENTS = {
    "clinc_oos": 'book a table -> restaurant\n{"text":"call mum","intent":"call"}\nno label here',
    "snips_nlu": 'play jazz\n{"intent":"play","slots":{"genre":"jazz"}}\nwake me\n{"intent":"alarm","slots":{}}',
    "nlu_evaluation": 'what time is it\n{"intent":"time","slots":{}}',
    "goemotions": "That is great!\n(joy, admiration)\nOh no.\n(sadness)",
    "esnli": "1. A man runs.\n2. A man moves.\nRelation: same (entailment). Running is moving.",
    "tatoeba_en_zh": "I eat.\n我吃。\nI sleep.\n我睡。\nI go.\n我走。",
    "tatoeba_en": "The dog barks.\nThe cat sleeps.\nThe bird sings.",
    "common_voice": "The dog barks.\nThe cat sleeps.\nThe bird sings.",
    "tencent_chat_zh": "你今天好吗？\n我今天很好。\n明天再见吧！",
    "wiki_split": "A is b and c.\nIn other words: A is b. A is c.\nD is e and f.\nIn other words: D is e. D is f.",
    "cmrc_drcd": "李白是唐代诗人。他生于701年。\n问：李白是谁？\n答：唐代诗人\n问：他何时出生？\n答：701年\n问：他爱什么？\n答：酒",
    "event2mind": "She eats. Why: she is hungry. She feels full.",
    "sgd": "User: Hello.\nAssistant: Hi, what do you need?\nUser: A cab.\nAssistant: Booked.\n{\"state\":1}",
    "taskmaster": "User: Pizza please.\nAssistant: Which?\nUser: Any.",
    "crosswoz": "用户：你好。\n助手：您好。",
}


def check(talk):
    turns = talk[1:] if talk[0]["role"] == "system" else talk
    assert turns and [m["role"] for m in turns] == ["user", "assistant"] * (len(turns) // 2)
    assert all(isinstance(m["content"], str) and m["content"].strip() and m["content"].encode() for m in talk)


def test_every_reader_has_a_document_here():
    assert set(DOCUMENTS) == set(READERS)


@pytest.mark.parametrize("source", DOCUMENTS)
def test_conversations_alternate_and_end_with_the_assistant(source):
    talks = conversations(source, DOCUMENTS[source])
    assert talks and talks == conversations(source, DOCUMENTS[source])
    for talk in talks:
        check(talk)


def said(source, text=None):
    return [[m["content"] for m in talk if m["role"] != "system"] for talk in conversations(source, text or DOCUMENTS[source])]


def test_labels_are_those_of_the_source():
    assert said("clinc_oos") == [["book a table", '{"intent":"restaurant"}'], ["call mum", '{"intent":"call"}']]
    assert said("goemotions") == [["That is great!", '{"emotion":"joy, admiration"}'], ["Oh no.", '{"emotion":"sadness"}']]
    assert said("event2mind") == [["She eats.", "she is hungry"]]
    assert [json.loads(a)["intent"] for _, a in said("snips_nlu")] == ["play", "alarm"]
    assert said("esnli")[0][1].startswith(('{"relation":"same"', "same: "))


def test_dialogues_stop_where_the_form_ends():
    assert said("sgd") == [["Hello.", "Hi, what do you need?", "A cab.", "Booked."]]
    assert said("taskmaster") == [["Pizza please.", "Which?"]]
    assert said("crosswoz") == [["你好。", "您好。"]]


def test_answers_that_do_not_stand_in_the_shown_passage_are_left_out():
    text = "甲" * 300 + "乙在后面。\n问：后面是谁？\n答：乙\n问：前面是谁？\n答：甲"
    assert said("cmrc_drcd", text) == [["甲" * 300 + "\n前面是谁？", "甲"]]
    assert said("cmrc_drcd")[0][1::2] == ["唐代诗人", "701年"]


def test_what_has_two_right_answers_is_not_asked():
    assert said("tatoeba_en", "The dog barks.\nThe dog barks.\nThe bird sings.") == []
    asked = [u for n in range(40) for u, a in said("tatoeba_en_zh", f"Hi {n}.\n你好。\nHi {n}.\n您好。") if '"different"' in a]
    assert asked == []  # both are translations of the same sentence
    for n in range(40):
        for user, answer in said("wiki_split", f"X{n} is b and c.\nIn other words: It is b. It is c.\n" * 2):
            assert '"different"' not in answer and '"independent"' not in answer


def test_relations_hold():
    """Whatever is drawn: "same" names the pair, "independent" never does."""
    for n in range(30):
        pairs = {f"I eat {n}.": f"我吃{n}。", "I sleep.": "我睡。"}
        for turns in said("tatoeba_en_zh", "\n".join(x for pair in pairs.items() for x in pair)):
            if "relation" in turns[1]:
                new, stored = (line.split(": ", 1)[1] for line in turns[0].split("\n"))
                assert (json.loads(turns[1])["relation"] == "same") == (pairs[stored] == new)


def test_arbitrations_follow_the_direction():
    """e-SNLI says what follows from the first statement; asked the other way round, the same pair says more, and a neutral one is not asked."""
    seen = Counter()
    for n in range(60):
        text = (f"1. {n} dogs run fast.\n2. Dogs run.\nRelation: entailment (the second follows from the first). So.\n"
                f"1. {n} cats sleep.\n2. Cats bark.\nRelation: contradiction (they contradict each other). No.\n"
                f"1. {n} birds sing.\n2. Birds of song.\nRelation: neutral (neither). May be.")
        for *_, user, answer in said("esnli", text):
            if user.startswith("new: "):
                new, stored = (line.split(": ", 1)[1] for line in user.split("\n"))
                seen[(new.lstrip("0123456789 "), stored.lstrip("0123456789 ")), json.loads(answer)["relation"]] += 1
    assert seen[("Dogs run.", "dogs run fast."), "covered"] == 60 and seen[("dogs run fast.", "Dogs run."), "extends"]
    assert seen[("Cats bark.", "cats sleep."), "replaces"] == 60 and seen[("cats sleep.", "Cats bark."), "replaces"]
    assert seen[("Birds of song.", "birds sing."), "extends"] == 60 and not any(pair == ("birds sing.", "Birds of song.") for pair, _ in seen)
    unrelated = {pair for pair, relation in seen if relation == "independent"}
    assert unrelated and all(new.split()[0].lower() != stored.split()[0].lower() for new, stored in unrelated)


lines = st.sampled_from([*"\n".join(DOCUMENTS.values()).split("\n"), "{}", "[]", "{", '{"text":1,"intent":2}', '{"text":null,"intent":[]}',
                         '{"text":"\\ud83d","intent":"\\ud800"}',
                         '{"intent":{}}', "{" * 3000, '{"a":' * 3000, "User: ", "Assistant: ", "问：", "答：", "()", " -> ", "-> ->", ""])


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(READERS)), st.one_of(st.text(max_size=80), st.lists(st.one_of(lines, st.text(max_size=9)), max_size=12).map("\n".join)))
def test_malformed_documents_never_raise(source, text):
    for talk in conversations(source, text):
        check(talk)


def test_other_sources_give_nothing():
    assert conversations("wikipedia_en", "User: a\nAssistant: b") == []
