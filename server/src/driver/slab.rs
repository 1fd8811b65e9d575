//! Connections by small numbers, with a tag that tells one user of a number from the next.

/// A vector with holes that are filled again.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<usize>,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    tag: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Puts a value in and tells its slot.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.entries[slot];
            entry.tag = entry.tag.wrapping_add(1);
            entry.value = Some(value);
            slot
        } else {
            self.entries.push(Entry { tag: 0, value: Some(value) });
            self.entries.len() - 1
        }
    }

    /// Takes the value of a slot out.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<T> {
        let value = self.entries.get_mut(slot)?.value.take()?;
        self.free.push(slot);
        self.len -= 1;
        Some(value)
    }

    /// The value of a slot.
    pub(crate) fn get(&self, slot: usize) -> Option<&T> {
        self.entries.get(slot)?.value.as_ref()
    }

    /// The value of a slot.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.entries.get_mut(slot)?.value.as_mut()
    }

    /// The value of a slot, if it is still the one with this tag.
    pub(crate) fn get_tagged(&mut self, slot: usize, tag: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(slot)?;
        if entry.tag == tag { entry.value.as_mut() } else { None }
    }

    /// The tag of the slot's present value.
    pub(crate) fn tag(&self, slot: usize) -> u32 {
        self.entries.get(slot).map_or(0, |entry| entry.tag)
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All values with their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| Some((slot, entry.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_tag_finds_nothing() {
        let mut slab = Slab::default();
        let slot = slab.insert('a');
        let tag = slab.tag(slot);
        assert_eq!(slab.remove(slot), Some('a'));
        assert!(slab.is_empty());
        assert_eq!(slab.insert('b'), slot);
        assert_eq!(slab.get_tagged(slot, tag), None);
        assert_eq!(slab.get_tagged(slot, slab.tag(slot)), Some(&mut 'b'));
    }
}
