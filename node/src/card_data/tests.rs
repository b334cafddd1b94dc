#![allow(clippy::unwrap_used)]

use super::*;

/// A number with these first digits and this length, whose check digit is right.
fn number(first: &str, length: usize) -> String {
    let body = format!("{first:0<width$}", width = length - 1);
    let complete = (0..10).map(|check| format!("{body}{check}"));
    let digits = |text: &str| text.bytes().map(|byte| byte - b'0').collect::<Vec<_>>();
    complete.into_iter().find(|text| schemes::luhn(&digits(text))).unwrap()
}

/// Numbers that payment providers publish for tests.
const PUBLISHED: [(&str, Scheme); 16] = [
    ("4111111111111111", Scheme::Visa),
    ("4242424242424242", Scheme::Visa),
    ("4012888888881881", Scheme::Visa),
    ("4222222222222", Scheme::Visa),
    ("5555555555554444", Scheme::Mastercard),
    ("5105105105105100", Scheme::Mastercard),
    ("2223003122003222", Scheme::Mastercard),
    ("378282246310005", Scheme::Amex),
    ("371449635398431", Scheme::Amex),
    ("6011111111111117", Scheme::Discover),
    ("3530111333300000", Scheme::Jcb),
    ("6200000000000005", Scheme::UnionPay),
    ("6205500000000000004", Scheme::UnionPay),
    ("6759649826438453", Scheme::Maestro),
    ("30569309025904", Scheme::Diners),
    ("36227206271667", Scheme::Diners),
];

fn kinds(text: &str) -> Vec<Kind> {
    find(text).into_iter().map(|finding| finding.kind).collect()
}

#[test]
fn published_test_numbers_are_found_and_named() {
    for (number, scheme) in PUBLISHED {
        assert!(looks_like_card(number), "{number}");
        assert_eq!(kinds(number), [Kind::Number(scheme)], "{number}");
        let mut wrong = number.to_owned();
        let last = wrong.pop().unwrap().to_digit(10).unwrap();
        wrong.push(char::from_digit((last + 1) % 10, 10).unwrap());
        assert!(!looks_like_card(&wrong), "{wrong}: the check digit is wrong");
    }
}

#[test]
fn each_scheme_has_its_first_digits_and_its_lengths() {
    for (first, lengths, scheme) in [
        ("4", vec![13, 16, 18, 19], Some(Scheme::Visa)),
        ("51", vec![16], Some(Scheme::Mastercard)),
        ("55", vec![16], Some(Scheme::Mastercard)),
        ("2221", vec![16], Some(Scheme::Mastercard)),
        ("2720", vec![16], Some(Scheme::Mastercard)),
        ("2721", vec![], None),
        ("2199", vec![], None),
        ("2200", vec![16, 17, 18, 19], Some(Scheme::Mir)),
        ("34", vec![15], Some(Scheme::Amex)),
        ("35", vec![], None),
        ("3528", vec![16, 17, 18, 19], Some(Scheme::Jcb)),
        ("3589", vec![16, 17, 18, 19], Some(Scheme::Jcb)),
        ("305", vec![14, 16, 17, 18, 19], Some(Scheme::Diners)),
        ("36", vec![14, 15, 16, 17, 18, 19], Some(Scheme::Diners)),
        ("6011", vec![16, 17, 18, 19], Some(Scheme::Discover)),
        ("644", vec![16, 17, 18, 19], Some(Scheme::Discover)),
        ("62", vec![16, 17, 18, 19], Some(Scheme::UnionPay)),
        ("6759", vec![12, 13, 14, 15, 16, 17, 18, 19], Some(Scheme::Maestro)),
        ("5018", vec![12, 13, 14, 15, 16, 17, 18, 19], Some(Scheme::Maestro)),
        ("59", vec![], None),
        ("1", vec![], None),
        ("9", vec![], None),
        ("0", vec![], None),
    ] {
        for length in 10..=21 {
            let text = number(first, length);
            let digits: Vec<u8> = text.bytes().map(|byte| byte - b'0').collect();
            assert_eq!(schemes::scheme(&digits), scheme.filter(|_| lengths.contains(&length)), "{text}");
        }
    }
}

#[test]
fn a_number_is_found_however_it_is_written_and_keeps_its_last_four_digits() {
    for (written, masked) in [
        ("4111111111111111", "************1111"),
        ("4111 1111 1111 1111", "**** **** **** 1111"),
        ("4111-1111-1111-1111", "****-****-****-1111"),
        ("4111.1111.1111.1111", "****.****.****.1111"),
        ("4111 - 1111 - 1111 - 1111", "**** - **** - **** - 1111"),
        ("3782 822463 10005", "**** ****** *0005"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "* * * * * * * * * * * * 1 1 1 1"),
        ("4111\u{a0}1111\u{2009}1111\u{202f}1111", "****\u{a0}****\u{2009}****\u{202f}1111"),
        ("4111–1111‑1111−1111", "****–****‑****−1111"),
        ("4111·1111•1111・1111", "****·****•****・1111"),
        ("４１１１１１１１１１１１１１１１", "************１１１１"),
        ("٤١١١١١١١١١١١١١١١", "************١١١١"),
        ("४१११ ११११ ११११ ११११", "**** **** **** ११११"),
        ("𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏", "************𝟏𝟏𝟏𝟏"),
        ("④①①①①①①①①①①①①①①①", "************①①①①"),
        ("４1１1 ١١١١ 1111 1111", "**** **** **** 1111"),
        ("4111\u{200b}1111\u{200b}1111\u{ad}1111", "****\u{200b}****\u{200b}****\u{ad}1111"),
        ("4111\n1111\n1111\n1111", "****\n****\n****\n1111"),
        ("paid with 4111 1111 1111 1111, thanks", "paid with **** **** **** 1111, thanks"),
        ("card4111111111111111x", "card************1111x"),
        ("tok_4111111111111111", "tok_************1111"),
        ("{\"n\":\"4111111111111111\"}", "{\"n\":\"************1111\"}"),
        ("2 coffees 4111 1111 1111 1111 12/27", "2 coffees **** **** **** 1111 12/27"),
        ("12 4111 1111 1111 1111", "12 **** **** **** 1111"),
        ("00004111111111111111", "0000************1111"),
        ("41111111111111111227123", "************11111227123"),
        ("9994111111111111111", "999************1111"),
        ("4111111111111111 5555555555554444", "************1111 ************4444"),
        ("カード4111111111111111です", "カード************1111です"),
    ] {
        assert_eq!(mask(written), masked, "{written}");
        assert!(looks_like_card(written), "{written}");
        assert_eq!(mask(&mask(written)), mask(written), "{written}: masked twice");
        assert_eq!(find(masked), [], "{masked}");
    }
}

#[test]
fn what_a_stripe_holds_is_found_whole() {
    for (track, masked) in [
        ("%B4111111111111111^DOE/JANE^27122011234567890?", "**************1111******************************"),
        ("a ;4111111111111111=27122011234567890? b", "a *************1111******************* b"),
        ("4111111111111111=2712201123", "************1111***********"),
        ("4111111111111111D27122011234567F", "************1111****************"),
        (";9999999999999999=27122011?", "*************9999**********"),
        ("%b3782 822463 10005^DOE/JANE^2712201?", "*************0005******************"),
    ] {
        let masked_now = mask(track);
        let kept = masked_now.trim_start_matches("a ").trim_end_matches(" b");
        let digits: String = kept.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits.len(), 4, "{track}: {masked_now}");
        assert!(!masked_now.contains("DOE"), "{masked_now}");
        assert_eq!(masked_now.chars().count(), track.chars().count());
        assert!(masked_now.starts_with(&masked[..10]), "{masked_now}");
        assert!(kinds(track).contains(&Kind::Track) && looks_like_card(track), "{track}");
        assert_eq!(find(&masked_now), [], "{masked_now}");
    }
    for text in ["x=123456789012", "%BOLD^1234^?", "; 5 = 7", "%B123^"] {
        assert_eq!(find(text), [], "{text}");
    }
}

#[test]
fn a_security_code_is_found_beside_its_name() {
    for (written, masked) in [
        ("CVV 123", "CVV ***"),
        ("cvv: 1234", "cvv: ****"),
        ("cvv2=123", "cvv2=***"),
        ("cvv234", "cvv***"),
        ("CVC is 123.", "CVC is ***."),
        ("cid #1234", "cid #****"),
        ("\"cvc\": \"123\"", "\"cvc\": \"***\""),
        ("card_cvc=123&x=1", "card_cvc=***&x=1"),
        ("the security code is 123", "the security code is ***"),
        ("security-code number: 123", "security-code number: ***"),
        ("Prüfnummer 123", "Prüfnummer ***"),
        ("Kartenprüfnummer lautet 123", "Kartenprüfnummer lautet ***"),
        ("123 (CVV)", "*** (CVV)"),
        ("cvv 1 2 3", "cvv * * *"),
        ("ＣＶＶ：１２３", "ＣＶＶ：***"),
        ("4111 1111 1111 1111 cvv 123", "**** **** **** 1111 cvv ***"),
    ] {
        assert_eq!(mask(written), masked, "{written}");
        assert_eq!(find(masked), [], "{masked}");
    }
    for text in ["acid 100", "cvv", "cvv 12", "cvv 12345", "cide 123", "decided 123", "placid 1234", "the code is 123"]
    {
        assert_eq!(find(text), [], "{text}");
    }
    assert!(!looks_like_card("cid=1234"), "a code alone is no card");
}

#[test]
fn other_numbers_are_let_be() {
    for text in [
        "",
        "1234567890123456",
        "2026-06-06T10:00:00.123456+02:00",
        "1780000000000",
        "order 20260606-000123",
        "3.50 + 4.20 = 7.70",
        "+49 151 12345678",
        "+43 664 1234567",
        "+1 4222222222222",
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "4006381333931",
        "5901234123457",
        "192.168.178.201:8080",
        "9f3c1a52-4b7e-4d19-8a60-0e5d4c3b2a19",
        "1 2 3 4 5 6 7 8 9 10 11 12",
    ] {
        assert_eq!(find(text), [], "{text}");
        assert!(matches!(mask(text), Cow::Borrowed(same) if same == text), "{text}");
        assert!(!looks_like_card(text), "{text}");
    }
}

/// A generator of numbers (xorshift*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

fn barcode(dice: &mut Dice, first: &str) -> String {
    let body = format!("{first}{}", dice.digits(12 - first.len()));
    let weighed = |(index, byte): (usize, u8)| u32::from(byte - b'0') * if index % 2 == 0 { 1 } else { 3 };
    let sum: u32 = body.bytes().enumerate().map(weighed).sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn account(dice: &mut Dice, country: &str, digits: usize) -> String {
    let body = dice.digits(digits);
    let letters = country.bytes().map(|byte| u32::from(byte - b'A') + 10);
    let rest = body.bytes().fold(0, |sum, byte| (sum * 10 + u32::from(byte - b'0')) % 97);
    let rest = letters.chain([0]).fold(rest, |sum, sign| (sum * 100 + sign) % 97);
    format!("{country}{:02}{body}", 98 - rest)
}

fn uuid(dice: &mut Dice) -> String {
    let mut hex =
        |count: usize| (0..count).filter_map(|_| char::from_digit(dice.below(16) as u32, 16)).collect::<String>();
    [8, 4, 4, 4, 12].map(&mut hex).join("-")
}

/// How often something else than a card is masked. `cargo test -- --nocapture false_alarms` prints it.
#[test]
#[allow(clippy::print_stdout)]
fn false_alarms_are_counted() {
    const EACH: usize = 20_000;
    type Draw = fn(&mut Dice) -> String;
    let kinds: [(&str, Draw, usize); 14] = [
        (
            "EAN-13, any country",
            |dice| {
                let first = dice.digits(1);
                barcode(dice, &first)
            },
            0,
        ),
        (
            "EAN-13, Germany (400 to 440)",
            |dice| {
                let first = (400 + dice.below(41)).to_string();
                barcode(dice, &first)
            },
            0,
        ),
        ("IBAN, Germany", |dice| account(dice, "DE", 18), 0),
        ("IBAN, Austria", |dice| account(dice, "AT", 16), 0),
        ("IBAN, Poland", |dice| account(dice, "PL", 24), 0),
        (
            "telephone, +49 and 10 or 11 digits",
            |dice| {
                let more = 10 + dice.below(2) as usize;
                format!("+49 {}", dice.digits(more))
            },
            0,
        ),
        (
            "telephone, 0 and 9 to 11 digits",
            |dice| {
                let more = 9 + dice.below(3) as usize;
                format!("0{}", dice.digits(more))
            },
            200,
        ),
        (
            "two telephone numbers in a row",
            |dice| format!("0{} {}, 0{} {}", dice.digits(3), dice.digits(7), dice.digits(3), dice.digits(7)),
            800,
        ),
        ("UUID", uuid, 20),
        ("13 digits", |dice| dice.digits(13), 800),
        ("16 digits", |dice| dice.digits(16), 1_000),
        ("19 digits", |dice| dice.digits(19), 2_400),
        ("24 digits", |dice| dice.digits(24), 2_000),
        ("milliseconds of this century", |dice| (1_000_000_000_000 + dice.below(1 << 31) * 1_000).to_string(), 0),
    ];
    let mut dice = Dice(0x5eed);
    for (kind, draw, most) in kinds {
        let masked = (0..EACH).filter(|_| !find(&draw(&mut dice)).is_empty()).count();
        println!("{kind:<40} {:>6.2} %", masked as f64 * 100.0 / EACH as f64);
        assert!(masked <= most, "{kind}: {masked} of {EACH}");
    }
}

#[test]
fn whatever_stands_around_it_a_number_is_masked_and_nothing_is_found_afterwards() {
    const AROUND: [&str; 14] = ["", " ", "-", "a", "é", "漢", "12", "0", ";", "%B", "=", "^", "cvv", "\u{200b}"];
    let mut dice = Dice(99);
    for round in 0..20_000 {
        let (published, _) = PUBLISHED[dice.below(PUBLISHED.len() as u64) as usize];
        let between = AROUND[dice.below(4) as usize % 3];
        let written: Vec<String> =
            published.as_bytes().chunks(4).map(|part| String::from_utf8_lossy(part).into()).collect();
        let mut text = String::new();
        for place in 0..3 {
            text.push_str(AROUND[dice.below(AROUND.len() as u64) as usize]);
            if place == 1 {
                text.push_str(&written.join(between));
            }
        }
        let masked = mask(&text);
        assert_eq!(find(&masked), [], "round {round}: {text} {masked}");
        assert_eq!(masked.chars().count(), text.chars().count());
        assert_eq!(mask(&masked), masked);
    }
}

#[test]
fn any_text_is_taken() {
    let signs: Vec<char> = "0123456789 -.;%B^=?Dcv\u{200b}４٤漢é".chars().collect();
    let mut dice = Dice(7);
    for _ in 0..20_000 {
        let length = dice.below(60);
        let text: String = (0..length).map(|_| signs[dice.below(signs.len() as u64) as usize]).collect();
        let masked = mask(&text);
        assert_eq!(find(&masked), [], "{text:?} {masked:?}");
        looks_like_card(&text);
        for finding in find(&text) {
            assert!(text.is_char_boundary(finding.range.start) && text.is_char_boundary(finding.range.end));
        }
    }
}
