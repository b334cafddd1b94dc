#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn gtin(text: &str) -> Result<Gtin, BarcodeError> {
    text.parse()
}

#[test]
fn published_codes_are_right() {
    for (code, fourteen) in [
        ("4006381333931", "04006381333931"),
        ("9780306406157", "09780306406157"),
        ("5901234123457", "05901234123457"),
        ("9501101531000", "09501101531000"),
        ("73513537", "00000073513537"),
        ("96385074", "00000096385074"),
        ("95012346", "00000095012346"),
        ("036000291452", "00036000291452"),
        ("614141000036", "00614141000036"),
        ("15400141288763", "15400141288763"),
        ("04252614", "00042100005264"),
        ("01234565", "00012345000065"),
    ] {
        assert_eq!(gtin(code).unwrap().to_string(), fourteen, "{code}");
    }
}

#[test]
fn a_wrong_check_digit_says_which_it_should_be() {
    let error = gtin("4006381333937").unwrap_err();
    assert_eq!(error, BarcodeError::CheckDigit { is: 7, should: 1 });
    assert_eq!(error.to_string(), "check digit is 7, should be 1");
    assert_eq!(gtin("15400141288764").unwrap_err().to_string(), "check digit is 4, should be 3");
}

#[test]
fn lengths_and_letters_that_no_gtin_has_are_named() {
    for digits in [1, 7, 9, 10, 11, 15, 40] {
        assert_eq!(gtin(&"0".repeat(digits)), Err(BarcodeError::Length { digits }));
    }
    assert_eq!(gtin("40063813339E1"), Err(BarcodeError::NotDigits("40063813339E1".into())));
    // Digits of other scripts are digits to `char::is_numeric` only.
    assert!(matches!(gtin("٤٠٠٦٣٨١٣"), Err(BarcodeError::NotDigits(_))));
}

#[test]
fn each_form_of_upc_e_expands_to_its_upc_a() {
    for (short, long) in [
        ("123450", "012000003455"),
        ("123451", "012100003454"),
        ("123452", "012200003453"),
        ("123453", "012300000451"),
        ("123454", "012340000053"),
        ("123455", "012345000058"),
        ("123459", "012345000096"),
        ("0425261", "042100005264"),
    ] {
        assert_eq!(Gtin::upc_e(short), gtin(long), "{short}");
    }
    assert_eq!(Gtin::upc_e("04252610"), Err(BarcodeError::CheckDigit { is: 0, should: 4 }));
    assert_eq!(Gtin::upc_e("24252614"), Err(BarcodeError::NumberSystem(2)));
    assert_eq!(Gtin::upc_e("04252"), Err(BarcodeError::Length { digits: 5 }));
}

#[test]
fn eight_digits_are_the_code_that_their_check_digit_makes_them() {
    // The same seven digits, completed once as EAN-8 and once as UPC-E.
    assert_eq!(gtin("04252614"), Gtin::upc_e("04252614"));
    assert_eq!(gtin("04252610").unwrap().to_string(), "00000004252610");
    assert_eq!(gtin("04252615"), Err(BarcodeError::CheckDigit { is: 5, should: 0 }));
}

#[test]
fn a_carton_is_another_thing_than_what_is_in_it() {
    assert_eq!(gtin("04006381333931"), gtin("4006381333931"));
    assert_ne!(gtin("14006381333938").unwrap(), gtin("4006381333931").unwrap());
}

#[test]
fn what_a_scanner_typed_is_trimmed_and_bounded() {
    assert_eq!(typed("  4006381333931\r\n").unwrap(), "4006381333931");
    assert_eq!(typed(" \t\n"), Err(BarcodeError::Empty));
    assert_eq!(typed("400\u{0}1"), Err(BarcodeError::Unprintable { position: 4 }));
    assert_eq!(typed("400\u{202e}1"), Err(BarcodeError::Unprintable { position: 4 }));
    assert_eq!(typed(&"x".repeat(CODE_MAX)).unwrap().len(), CODE_MAX);
    assert_eq!(typed(&"x".repeat(CODE_MAX + 1)), Err(BarcodeError::TooLong { bytes: CODE_MAX + 1 }));
}

#[test]
fn an_own_code_is_compared_as_it_is() {
    assert_eq!(key(" TEA-7 ").unwrap(), "TEA-7");
    assert_eq!(key("4006381333937").unwrap(), "4006381333937", "a check digit that is none");
    assert_eq!(key("036000291452").unwrap(), key("0036000291452").unwrap());
}

#[test]
fn published_price_check_digits_are_right() {
    assert_eq!(price_check_digit(&[2, 8, 7, 5]), Some(9));
    assert_eq!(price_check_digit(&[1, 4, 6, 8, 5]), Some(6));
    assert_eq!(price_check_digit(&[0, 0, 0, 0]), Some(0));
    assert_eq!(price_check_digit(&[0, 0, 0, 0, 0]), Some(0));
    assert_eq!(price_check_digit(&[1, 2, 3]), None);
    assert_eq!(price_check_digit(&[1, 2, 3, 10]), None);
}

fn complete(twelve: &str) -> String {
    let digits: Vec<u8> = twelve.bytes().map(|byte| byte - b'0').collect();
    Gtin::completed(&digits).unwrap().to_string()[1..].to_owned()
}

#[test]
fn price_and_weight_are_read_where_the_layout_has_them() {
    let layouts = Layouts::new(["21IIIIIPPPPPC", "28IIIIIWWWWWC", "02IIIIIVPPPPC"]).unwrap();
    let read = |code: &str| layouts.read(code).unwrap().unwrap();
    let price = read(&complete("211234500799"));
    assert_eq!((price.item.as_str(), price.measure), ("12345", Measure::Price(799)));
    assert_eq!(price.base.to_string(), format!("0{}", complete("211234500000")));
    assert_eq!(read(&complete("280077700350")).measure, Measure::Grams(350));
    // UPC-A that begins with 2 is EAN-13 that begins with 02.
    let thirteen = complete("021234592875");
    let with_verifier = read(&thirteen);
    assert_eq!((with_verifier.item.as_str(), with_verifier.measure), ("12345", Measure::Price(2875)));
    assert_eq!(read(&thirteen[1..]), with_verifier);
}

#[test]
fn a_price_that_may_have_been_misread_is_refused() {
    let layouts = Layouts::new(["21IIIIIPPPPPC", "02IIIIIVPPPPC"]).unwrap();
    let wrong = scan(&complete("021234582875"), &layouts).unwrap_err();
    assert_eq!(wrong.to_string(), "the check digit of the price inside is 8, should be 9");
    let mut code = complete("211234500799").into_bytes();
    code[12] = if code[12] == b'9' { b'0' } else { code[12] + 1 };
    assert!(matches!(scan(std::str::from_utf8(&code).unwrap(), &layouts), Err(BarcodeError::CheckDigit { .. })));
    assert_eq!(scan(&complete("211234500000"), &layouts), Err(BarcodeError::NothingInside("price")));
    // Without a layout the same is a code like any other.
    let plain = scan(&complete("211234500000"), &Layouts::default()).unwrap();
    assert_eq!((plain.embedded, plain.key.len()), (None, 14));
    // And what only looks alike is a stall's own code.
    assert_eq!(scan("21123450079Ä", &layouts).unwrap().embedded, None);
    assert_eq!(scan("2112345007-9X", &layouts).unwrap().embedded, None);
}

#[test]
fn layouts_that_cannot_be_meant_are_refused() {
    for (layout, word) in [
        ("21IIIIIPPPPP", "thirteen"),
        ("40IIIIIPPPPPC", "02 or 20"),
        ("21IIIIIPPPPPP", "ends with C"),
        ("21IIIIIXXXXXC", "letters"),
        ("21IIIIIIIIIIC", "needed"),
        ("21IIIIPPPWWWC", "not both"),
        ("21IIPPPPPIIIC", "side by side"),
        ("21IIIIVPPPVVC", "side by side"),
        ("21IIIIIIVPPPC", "four or five"),
        ("21IIÄÄPPPPC", "letters"),
    ] {
        let error = Layouts::new([layout]).unwrap_err().to_string();
        assert!(error.contains(word), "{layout}: {error}");
    }
    assert!(Layouts::new(["21IIIIIPPPPPC", "21IIIIIWWWWWC"]).unwrap_err().to_string().contains("another"));
    assert_eq!("21IIIIIPPPPPC".parse::<Layout>().unwrap().to_string(), "21IIIIIPPPPPC");
}

proptest! {
    /// Each single wrong digit is found, and each length has its check digit.
    #[test]
    fn no_digit_can_be_wrong_alone(
        body in prop::collection::vec(0..10_u8, 13),
        length in prop::sample::select(vec![12_usize, 13, 14]),
        place in 0..14_usize,
        change in 1..10_u8,
    ) {
        let whole = Gtin::completed(&body[..length - 1]).unwrap().to_string()[14 - length..].to_owned();
        prop_assert_eq!(gtin(&whole).unwrap().to_string(), format!("{whole:0>14}"));
        let mut digits = whole.into_bytes();
        let place = place % length;
        digits[place] = b'0' + (digits[place] - b'0' + change) % 10;
        let error = gtin(std::str::from_utf8(&digits).unwrap()).unwrap_err();
        let is_check_digit = matches!(error, BarcodeError::CheckDigit { .. });
        prop_assert!(is_check_digit);
    }

    #[test]
    fn a_upc_a_code_is_the_ean_13_code_with_a_zero_before_it(body in "[0-9]{11}") {
        let code = complete(&format!("0{body}"));
        prop_assert_eq!(key(&code).unwrap(), key(&code[1..]).unwrap());
        prop_assert_eq!(key(&code).unwrap(), key(&format!("0{code}")).unwrap());
    }

    #[test]
    fn a_key_is_its_own_key(text in "\\PC{1,20}|[0-9]{6,15}") {
        if let Ok(once) = key(&text) {
            prop_assert_eq!(key(&once).unwrap(), once);
        }
    }

    /// What a scale prints is read again, whatever the places; and a price wrong in one digit is noticed by its own check
    /// digit even where that of the code was made to fit.
    #[test]
    fn what_a_scale_prints_is_read_again(item in 0..100_000_u32, price in 1..10_000_u64, place in 0..4_usize, change in 1..10_u8) {
        let layouts = Layouts::new(["02IIIIIVPPPPC"]).unwrap();
        let digits: Vec<u8> = format!("{price:04}").bytes().map(|byte| byte - b'0').collect();
        let verifier = price_check_digit(&digits).unwrap();
        let read = scan(&complete(&format!("02{item:05}{verifier}{price:04}")), &layouts).unwrap().embedded.unwrap();
        prop_assert_eq!((read.item, read.measure), (format!("{item:05}"), Measure::Price(price)));
        let mut wrong = digits;
        wrong[place] = (wrong[place] + change) % 10;
        let wrong: String = wrong.iter().map(u8::to_string).collect();
        let result = scan(&complete(&format!("02{item:05}{verifier}{wrong}")), &layouts);
        let noticed = matches!(result, Err(BarcodeError::MeasureCheckDigit { .. }));
        prop_assert!(noticed, "{:?}", result);
    }

    #[test]
    fn nothing_that_is_typed_makes_it_panic(text in ".{0,80}", layout in ".{0,14}|2[0-9][IPWV]{10}C") {
        let layouts = Layouts::new([layout.as_str(), "02IIIIIVPPPPC"]).unwrap_or_default();
        let _ = scan(&text, &layouts);
        let _ = Gtin::upc_e(&text);
    }
}
