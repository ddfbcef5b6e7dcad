//! Java properties files, as Kafka's `FileConfigProvider` reads them.

/// The value of `key`, the last one where it stands twice.
pub(super) fn get(text: &str, key: &str) -> Option<String> {
    let found = logical_lines(text).filter_map(|line| split(&line)).filter(|(name, _)| name == key);
    found.last().map(|(_, value)| value)
}

/// Lines without comments and blank ones; a line that ends in an odd number of backslashes goes on in the next.
fn logical_lines(text: &str) -> impl Iterator<Item = String> {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        let mut line = lines.find(|line| !matches!(line.trim_start().chars().next(), None | Some('#' | '!')))?;
        let mut whole = String::new();
        loop {
            line = line.trim_start();
            let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
            if backslashes.is_multiple_of(2) {
                whole.push_str(line);
                return Some(whole);
            }
            whole.push_str(&line[..line.len() - 1]);
            match lines.next() {
                Some(next) => line = next,
                None => return Some(whole),
            }
        }
    })
}

/// Key and value, parted by the first unescaped `=`, `:` or blank.
fn split(line: &str) -> Option<(String, String)> {
    let mut escaped = false;
    let parting = line.find(|c: char| {
        let parts = !escaped && (matches!(c, '=' | ':') || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        parts
    });
    let (key, rest) = line.split_at(parting.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    Some((unescape(key)?, unescape(rest)?))
}

/// `None` where a Unicode escape is damaged.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# a comment\n! another\nuser = alice\npassword:p=w d\nlong = one \\\n  two\n\
                    back\\=slash = a\\\\b\nuni=\\u00e9\nblank value\nempty=\nuser = bob";
        let expect = [
            ("user", "bob"),
            ("password", "p=w d"),
            ("long", "one two"),
            ("back=slash", "a\\b"),
            ("uni", "é"),
            ("blank", "value"),
            ("empty", ""),
        ];
        for (key, value) in expect {
            assert_eq!(get(text, key).as_deref(), Some(value), "{key}");
        }
        assert_eq!(get(text, "absent"), None);
        assert_eq!(get("dangling = x\\", "dangling").as_deref(), Some("x"));
    }
}
