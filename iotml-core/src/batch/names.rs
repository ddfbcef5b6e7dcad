//! Names that repeat, such as topics and headers, each kept once.

use std::collections::HashMap;
use std::sync::Arc;

/// Up to this many names a scan beats a hash.
const SCANNED: usize = 8;

/// A list of different names, each known by its number.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    names: Vec<Arc<str>>,
    /// Filled once there are many names: MQTT has one topic per device, and a sender may make up headers.
    index: HashMap<Arc<str>, u32>,
    n_bytes: usize,
}

impl Names {
    /// The number of `name`, which is kept unless it is known.
    pub fn intern(&mut self, name: &str) -> u32 {
        if self.names.len() <= SCANNED {
            if let Some(at) = self.names.iter().position(|known| **known == *name) {
                return at as u32;
            }
        } else if let Some(at) = self.index.get(name) {
            return *at;
        }
        let at = self.names.len() as u32;
        let name: Arc<str> = name.into();
        self.n_bytes += name.len();
        self.names.push(name.clone());
        if self.names.len() == SCANNED + 1 {
            self.index = self.names.iter().cloned().zip(0..).collect();
        } else if self.names.len() > SCANNED {
            self.index.insert(name, at);
        }
        at
    }

    /// The name of this number.
    #[inline]
    pub fn get(&self, at: u32) -> &Arc<str> {
        &self.names[at as usize]
    }

    /// Bytes of all names together.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_below_and_beyond_the_scan() {
        let mut names = Names::default();
        for n in 0..50 {
            assert_eq!(names.intern(&format!("name-{}", n % 20)), n % 20);
        }
        assert_eq!((names.names.len(), names.n_bytes()), (20, 10 * 6 + 10 * 7));
        assert_eq!(&**names.get(13), "name-13");
    }
}
