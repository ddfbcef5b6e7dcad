//! Dead letters that are too large for where they go: what matters least is left out until they fit.

use super::header;
use crate::batch::{Header, Message, Messages};

/// What a header or a message costs at most beside its bytes.
const OVERHEAD: usize = 10;

/// Bytes of each header of the context that are kept.
const CONTEXT_BYTES: usize = 1 << 10;

/// Appends the dead letter at `row` of `letters` to `shortened`, with half of its bytes: the beginnings of payload and key,
/// those of the sender's headers for which there is room, and the context, which says what is missing. False if it cannot be
/// made any smaller.
///
/// Nobody but the far side knows how much it takes, so whoever calls this tries again until it does.
pub(super) fn shorten(letters: &Messages, row: usize, shortened: &mut Messages) -> bool {
    let headers: Vec<Header<'_>> = letters.headers().of(row).collect();
    // The context stands behind the sender's headers, whatever names those have.
    let n_sent = headers.iter().rposition(|header| header.name == header::TOPIC).unwrap_or(headers.len());
    let (sent, context) = headers.split_at(n_sent);
    let whole = letters.message(row);
    let [n_payload, n_key] = [whole.payload, whole.key].map(|part| part.map_or(0, <[u8]>::len));
    let n_bytes = n_payload + n_key + OVERHEAD + headers.iter().map(cost).sum::<usize>();

    // What an earlier hand has cut keeps the number of that.
    let told = |name: &str| headers.iter().rfind(|header| header.name == name).and_then(|header| header.value);
    let [of_payload, of_key, of_headers] = [n_payload, n_key, sent.len()].map(|n| n.to_string());
    let missing = [
        (header::CUT, of_payload.as_bytes()),
        (header::KEY_CUT, of_key.as_bytes()),
        (header::HEADERS_CUT, of_headers.as_bytes()),
    ];
    let missing = missing.map(|(name, now)| Header { name, value: Some(told(name).unwrap_or(now)) });
    let is_told = |header: &Header<'_>| missing.iter().any(|told| told.name == header.name);
    let first = |bytes: &'_ [u8], max: usize| bytes.len().min(max);
    let context = context.iter().filter(|header| !is_told(header)).chain(&missing);
    let context =
        context.map(|header| Header { value: header.value.map(|it| &it[..first(it, CONTEXT_BYTES)]), ..*header });
    let context: Vec<Header<'_>> = context.collect();

    let mut left = (n_bytes / 2).saturating_sub(OVERHEAD + context.iter().map(cost).sum::<usize>());
    let share = left / 4;
    let key = whole.key.map(|key| &key[..first(key, share)]);
    left -= key.map_or(0, <[u8]>::len);
    let mut room = share;
    let fits = |header: &&Header<'_>| {
        let cost = cost(header);
        let fits = cost <= room;
        room -= if fits { cost } else { room };
        fits
    };
    let sent: Vec<Header<'_>> = sent.iter().filter(|header| !is_told(header)).take_while(fits).copied().collect();
    left -= sent.iter().map(cost).sum::<usize>();
    let payload = whole.payload.map(|payload| &payload[..first(payload, left)]);
    let all = || sent.iter().chain(&context);
    let n_now = payload.map_or(0, <[u8]>::len) + key.map_or(0, <[u8]>::len) + OVERHEAD + all().map(cost).sum::<usize>();
    if n_now >= n_bytes {
        return false;
    }
    shortened.push(Message { payload, key, ..whole });
    all().for_each(|header| shortened.push_header(header.name, header.value));
    true
}

fn cost(header: &Header<'_>) -> usize {
    header.name.len() + header.value.map_or(0, <[u8]>::len) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(payload: usize, key: usize, sent: &[(&str, usize)]) -> Messages {
        let mut letters = Messages::default();
        let (payload, key) = (vec![b'p'; payload], vec![b'k'; key]);
        letters.push(Message { payload: Some(&payload), key: Some(&key), time: Some(7), ..Message::default() });
        sent.iter().for_each(|(name, n)| letters.push_header(name, Some(&vec![b'h'; *n])));
        for name in [header::TOPIC, header::REASON, header::MESSAGE] {
            letters.push_header(name, Some(b"context"));
        }
        letters
    }

    fn size(letters: &Messages) -> usize {
        let headers: usize = letters.headers().of(0).map(|header| cost(&header)).sum();
        letters.payload(0).map_or(0, <[u8]>::len) + letters.key(0).map_or(0, <[u8]>::len) + headers + OVERHEAD
    }

    fn shortened(letters: &Messages) -> Option<Messages> {
        let mut shortened = Messages::default();
        shorten(letters, 0, &mut shortened).then_some(shortened)
    }

    fn value(letters: &Messages, name: &str) -> String {
        let header = letters.headers().last(0, name).unwrap();
        String::from_utf8(header.value.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn inv_7_each_time_half_is_left_and_what_it_was_at_first_is_told() {
        let first = letter(100_000, 20, &[("small", 30), ("large", 50_000), ("behind", 3)]);
        let mut last = first.clone();
        for _ in 0..4 {
            let next = shortened(&last).unwrap();
            assert!(size(&next) <= size(&last) / 2 && size(&next) > size(&last) / 3, "{} {}", size(&last), size(&next));
            assert_eq!((value(&next, header::CUT), value(&next, header::KEY_CUT)), ("100000".into(), "20".into()));
            assert_eq!(
                (value(&next, header::HEADERS_CUT), value(&next, header::REASON)),
                ("3".into(), "context".into())
            );
            assert_eq!(next.headers().of(0).filter(|header| header.name == header::CUT).count(), 1);
            assert_eq!((next.key(0), next.time(0)), (first.key(0), Some(7)));
            assert_eq!(value(&next, "small").len(), 30);
            assert!(next.headers().last(0, "large").is_none(), "there is no room for it");
            last = next;
        }
    }

    #[test]
    fn inv_7_headers_keys_and_what_is_said_of_the_error_may_be_what_is_too_large() {
        let many: Vec<(String, usize)> = (0..20_000).map(|n| (format!("h{n}"), 1)).collect();
        let many: Vec<(&str, usize)> = many.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        let mut talkative = letter(10, 10, &[]);
        talkative.push_header(header::STACKTRACE, Some(&vec![b's'; 100_000]));
        for letter in [letter(1000, 3, &many), letter(10, 100_000, &[]), talkative] {
            let next = shortened(&letter).unwrap();
            assert!(size(&next) <= size(&letter) / 2, "{} {}", size(&letter), size(&next));
        }
    }

    #[test]
    fn the_number_that_a_source_has_told_stays() {
        let mut letters = Messages::default();
        letters.push(Message { payload: Some(&[b'p'; 10_000]), ..Message::default() });
        letters.push_header(header::CUT, Some(b"5000000"));
        letters.push_header(header::TOPIC, Some(b"cars"));
        let next = shortened(&letters).unwrap();
        assert_eq!((value(&next, header::CUT), next.key(0)), ("5000000".into(), None));
    }

    #[test]
    fn it_ends() {
        let mut last = letter(5000, 5000, &[("a", 5000)]);
        let mut n = 0;
        while let Some(next) = shortened(&last) {
            assert!(size(&next) < size(&last));
            (last, n) = (next, n + 1);
        }
        assert!((3..30).contains(&n) && size(&last) < 2000, "{n}: {}", size(&last));
    }
}
