"""The gate: secret values in many shapes against texts that only mention one, and exact duplicates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scionwood.tasks.cerebellum.gate import has_secret, is_duplicate, luhn, normal_form

SECRETS_EN = [
    "AKIAIOSFODNN7QX2PLMZ is the deploy key, don't lose it",
    "push with ghp_9aKd83hfLqPz02mXvBnR5tYw1cUe",
    "github_pat_11ABCDEFG0aZ3kLm9QxT_7vbn for the bot",
    "the CI uses glpat-x8Kq2mVn4Zr7Lp1TsWdY",
    "OPENAI_API_KEY=sk-proj-4Jd82kfLqpZ0mXvBnR5tYw1c",
    "sk-ant-api03-Zk3mVq8LpTs7WdYxR2nB is the new one",
    "stripe: sk_live_51HqLyjWDarjtT1zdp7dc",
    "slack bot xoxb-2483910573-aZkQmVnLpTs",
    "hf_qWeRtYuIoPaSdFgHjKlZxCvB1234 for the download",
    "npm_a1B2c3D4e5F6g7H8i9J0k1L2m3N4 expires in May",
    "maps: AIzaSyD3kfLqpZ0mXvBnR5tYw1cUeHj8",
    "bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x9Zk3mVq8LpTs7Wd",
    "-----BEGIN OPENSSH PRIVATE KEY----- b3BlbnNzaC1rZXk",
    "-----BEGIN RSA PRIVATE KEY-----",
    "postgres://fen:dachs77@db.local:5432/garden",
    "password: hunter22",
    "The wifi password is Gl0xinia!7, write it on the fridge",
    "pw = tulip-2291",
    "My laptop passphrase -> Marrow7Kettle",
    "passcode for the shed is 4471",
    "DB_PASSWORD=\"s3edl1ng\"",
    "DB_PASSWORD_PROD = q8ZkmVn4",
    "the alarm PIN is 8830",
    "pin code: 0417",
    "client_secret: 8fKq2mVn4Zr7Lp1T",
    "api-key = 9f8e7d6c5b4a",
    "token: 3kfLqpZ0mXvB",
    "card 4111 1111 1111 1111 12/27",
    "amex 3782 822463 10005 if the other one fails",
    "pay with 5555555555554444.",
    "visa 4012-8888-8888-1881, cvv 314",
    "the cvv is 902",
    "login: fen.marsh / Qu1nce!88",
    "old passwords: tulip77 and fern88",
    "Password is: hunter22",
    "my password's hunter22",
    "ＰＡＳＳＷＯＲＤ：ｈｕｎｔｅｒ２２",
]

SECRETS_ZH = [
    "家里wifi密码是fen12345",
    "密码：Gl0xinia7",
    "银行卡密码888123别忘了",
    "医院系统的口令是qz7781",
    "验证码482913，五分钟内有效",
    "您的验证码是 7741，请勿告诉他人",
    "密钥：9f8e7d6c5b4a",
    "令牌=3kfLqpZ0mXvB",
    "服务器密码改成了Tulip#2291",
    "门锁密码改为 440917",
    "卡号 6222021234567890128",
    "卡号：4111 1111 1111 1111",
    "信用卡5555555555554444，有效期27年",
    "登录账号 fen / Qu1nce!88",
    "邮箱密码为 hua2019mei",
    "我的支付密码是：224466",
    "部署用的是AKIAIOSFODNN7QX2PLMZ",
    "把sk-proj-4Jd82kfLqpZ0mXvBnR5tYw1c填进去就行",
    "数据库 mysql://root:dachs77@10.0.0.4/shop",
    "token是ghp_9aKd83hfLqPz02mXvBnR5tYw1cUe",
    "路由器后台 admin，密码 Abc@1234",
    "保险箱密码：091733，只有你我知道",
    "公司VPN的口令为Lotus88!",
    "api key是9f8e7d6c5b4a3d2e",
    "开机密码「yu7788」",
    "取件用的验证码：５５２１",
]

MENTIONS_EN = [
    "I forgot my password again",
    "The wifi password is on the fridge",
    "the password is stored in the safe, second drawer",
    "rotate the API key every 90 days",
    "The API key belongs to Ana from platform",
    "max tokens = 4096 for the summariser",
    "token limit is 128000",
    "token count: 4096",
    "the token expires on 2026-12-01",
    "token expiry: 2026-12-01",
    "password reset is due 2026-03-14",
    "password length: 12 characters at least",
    "the secretary is Anna Holt",
    "secret santa budget is 2500 yen",
    "the secret ingredient is star anise",
    "pinned version: 2.14.1",
    "solder the LED to pin 13",
    "primary key constraint pk_customer_orders_2024 is gone",
    "the branch is called sk-refactor-login-screen",
    "job started at 1732104000003 and ended at 1732104000011",
    "trace 550e8400-e29b-41d4-a716-446655440000 failed",
    "ISBN 9780306406157",
    "see https://example.org/reset?step=2",
    "git clone git@github.com:fen/garden.git",
    "order no. 1000 2000 3000",
    "PIN was changed yesterday, ask Tom",
    "never put a password in the commit message",
    "two-factor codes come by text now",
    "my passport is valid until 2031",
    "she passed: 82 of 100",
    "the tokenizer is 8192 entries",
    "call me on +44 20 7946 0958",
]

MENTIONS_ZH = [
    "我又忘了密码",
    "密码写在冰箱上",
    "密码是妈妈设的，问她",
    "密码每90天换一次",
    "密码2024年改过一次",
    "密码至少12位",
    "验证码一直收不到",
    "验证码60秒后重发",
    "密钥由小陈保管",
    "口令不能写进提交说明",
    "token上限是128000",
    "令牌明天过期",
    "她把密码改成了更长的",
    "信用卡下个月到期",
    "卡号我记不住",
    "订单号 20261031000123",
    "登录页改版了",
    "密码错误次数：5",
    "电话 13800138000",
    "秘密武器是八角",
    "开会时间是2026-03-14",
    "不要把API key发到群里",
    "api key有效期是90天",
    "密码强度：中",
    "密码是不是该换了",
    "身份证放在抽屉里",
    "验证码功能下周上线",
]


@pytest.mark.parametrize("text", SECRETS_EN + SECRETS_ZH)
def test_a_secret_value_is_found(text):
    assert has_secret(text)


@pytest.mark.parametrize("text", MENTIONS_EN + MENTIONS_ZH)
def test_a_mention_is_no_secret(text):
    assert not has_secret(text)


@pytest.mark.parametrize("digits", ["4111111111111111", "378282246310005", "5555555555554444", "6011111111111117", "79927398713"])
def test_luhn_accepts_known_numbers_and_no_digit_changed(digits):
    assert luhn(digits)
    for at in range(len(digits)):
        for other in "0123456789":
            changed = digits[:at] + other + digits[at + 1 :]
            assert luhn(changed) == (changed == digits)


@pytest.mark.parametrize("a, b", [
    ("Allergic to penicillin.", "allergic to penicillin"),
    ("Wi-Fi name: Fen", "wifi name fen"),
    ("对青霉素过敏。", "对青霉素过敏"),
    ("Ｔｅａ at ３ pm", "tea at 3pm"),
    ("cafe\u0301 on Rye Lane", "café on Rye Lane!"),
    ("“Straße”", "STRASSE"),
])
def test_same_but_for_case_marks_width_and_blanks(a, b):
    assert is_duplicate(a, b) and is_duplicate(b, a)


@pytest.mark.parametrize("a, b", [
    ("takes 1.5 mg", "takes 15 mg"),
    ("the freezer is at -18", "the freezer is at 18"),
    ("shifts 3-4", "shifts 34"),
    ("meet at 10:30", "meet at 1030"),
    ("room 1 23", "room 12 3"),
    ("costs $5", "costs €5"),
    ("drinks tea", "drinks no tea"),
    ("...", "!!!"),
    ("", ""),
])
def test_what_differs_is_no_duplicate(a, b):
    assert not is_duplicate(a, b)


@given(st.text())
def test_the_gate_never_raises_and_the_normal_form_is_final(text):
    has_secret(text)
    form = normal_form(text)
    assert normal_form(form) == form
    assert is_duplicate(text, text) == bool(form)


@given(st.text(alphabet="pasword密码:=是 token-_/@.1aZ!4\n", max_size=80))
def test_the_gate_never_raises_near_its_own_shapes(text):
    assert has_secret(text) in (True, False)
