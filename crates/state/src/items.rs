//! A list of byte strings in one value, each readable without the others.

/// A list of byte strings stored as `count u32 | ends u32.. | bytes`: item `i` is a slice of it.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    #[allow(dead_code)]
    raw: &'a [u8],
}

impl<'a> Items<'a> {
    /// Number of items.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Item `index`.
    pub fn get(&self, _index: usize) -> Option<&'a [u8]> {
        todo!()
    }

    /// All items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let items = *self;
        (0..items.len()).map(move |index| items.get(index).unwrap_or_default())
    }
}
