//! A list of byte strings in one value, each readable without the others.

/// A list of byte strings stored as `count u32 | ends u32.. | bytes`: item `i` is a slice of it.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    ends: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Items<'a> {
    /// View the stored form; `None` if it is not one.
    pub(crate) fn parse(raw: &'a [u8]) -> Option<Self> {
        let (count, rest) = raw.split_at_checked(4)?;
        let count = u32::from_le_bytes(count.try_into().ok()?) as usize;
        let (ends, bytes) = rest.split_at_checked(count.checked_mul(4)?)?;
        let items = Self { ends, bytes };
        let last = count.checked_sub(1).map_or(0, |last| items.end(last));
        (last == bytes.len()).then_some(items)
    }

    /// The stored form of these items.
    pub(crate) fn encode<I: AsRef<[u8]>>(items: &[I]) -> Vec<u8> {
        let size: usize = items.iter().map(|item| item.as_ref().len()).sum();
        let mut raw = Vec::with_capacity(4 + 4 * items.len() + size);
        raw.extend_from_slice(&(items.len() as u32).to_le_bytes());
        let mut end = 0u32;
        for item in items {
            end += item.as_ref().len() as u32;
            raw.extend_from_slice(&end.to_le_bytes());
        }
        items.iter().for_each(|item| raw.extend_from_slice(item.as_ref()));
        raw
    }

    fn end(&self, index: usize) -> usize {
        let at = 4 * index;
        u32::from_le_bytes([self.ends[at], self.ends[at + 1], self.ends[at + 2], self.ends[at + 3]]) as usize
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ends.len() / 4
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Item `index`.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.len() {
            return None;
        }
        let start = if index == 0 { 0 } else { self.end(index - 1) };
        self.bytes.get(start..self.end(index))
    }

    /// All items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let items = *self;
        (0..items.len()).map(move |index| items.get(index).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Items;

    #[test]
    fn lists_read_back_by_index() {
        let lists: [&[&[u8]]; 4] = [&[], &[b""], &[b"one", b"", b"three"], &[&[7; 300]]];
        for list in lists {
            let raw = Items::encode(list);
            let items = Items::parse(&raw).unwrap();
            assert_eq!(items.iter().collect::<Vec<_>>(), list);
            assert_eq!((items.len(), items.is_empty(), items.get(list.len())), (list.len(), list.is_empty(), None));
        }
    }

    #[test]
    fn damaged_lists_are_refused() {
        let good = Items::encode(&[b"one", b"two"]);
        for raw in
            [&good[..good.len() - 1], &good[..7], &[1, 0], &[255, 255, 255, 255], &[good.clone(), vec![0]].concat()]
        {
            assert!(Items::parse(raw).is_none(), "{raw:?}");
        }
        // Ends that do not ascend give no item, and no panic.
        let mut crossed = good;
        crossed[4] = 200;
        assert_eq!(Items::parse(&crossed).unwrap().get(0), None);
    }
}
