//! Text files of a configuration, read to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Configurations and the files that they name are smaller by orders of magnitude; what is longer is another file, or a device
/// without an end.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// The text of `file`. Errs if it is longer than [`MAX_BYTES`] or not UTF-8.
pub(super) fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_long()));
    }
    Ok(text)
}

/// Why a longer text is refused.
pub(super) fn too_long() -> String {
    format!("longer than {MAX_BYTES} bytes, so it is no configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "longer than 1048576 bytes, so it is no configuration");
    }
}
