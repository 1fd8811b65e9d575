//! Values with stable keys: a vector with a list of its free places.

/// Names a value in a [`Slab`]; the key of a value that was removed never names another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_u64(key: u64) -> Self {
        Self { index: key as u32, generation: (key >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// Keeps its memory when values go, so that nothing is allocated in steady state.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    #[inline]
    pub(super) fn insert(&mut self, value: T) -> Key {
        match self.free.pop() {
            Some(index) => {
                let place = &mut self.places[index as usize];
                place.value = Some(value);
                Key { index, generation: place.generation }
            }
            None => {
                let index = self.places.len() as u32;
                self.places.push(Place { generation: 0, value: Some(value) });
                // Room to give every place back without allocating.
                self.free.reserve(self.places.len() - self.free.len());
                Key { index, generation: 0 }
            }
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.value.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.value.as_mut() } else { None }
    }

    #[inline]
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// Drops a value where it stands; gives back what `last` takes of it. A large value is not moved by that.
    #[inline]
    pub(super) fn drop_with<R>(&mut self, key: Key, last: impl FnOnce(&mut T) -> R) -> Option<R> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let result = last(place.value.as_mut()?);
        place.value = None;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(result)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key { index: index as u32, generation: place.generation };
            place.value.as_ref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_removed_value_names_nothing() {
        let mut slab = Slab::new();
        let one = slab.insert(1);
        assert_eq!(slab.remove(one), Some(1));
        let two = slab.insert(2);
        assert_ne!(one, two);
        assert_eq!((slab.get(one), slab.get(two)), (None, Some(&2)));
        assert_eq!((slab.remove(one), slab.len()), (None, 1));
        assert_eq!(Key::from_u64(two.to_u64()), two);
    }
}
