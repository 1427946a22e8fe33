//! The products of a batch.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// The product ids of a batch, each once, so that a click is two numbers.
#[derive(Debug, Default)]
pub(crate) struct Products {
    ids: Ids,
    /// The numbers, by the hashes of their ids.
    numbers: HashTable<u32>,
    /// Has random keys: producers choose the ids.
    hasher: DefaultHashBuilder,
}

impl Products {
    /// The id with this number.
    pub(crate) fn id(&self, number: u32) -> &str {
        self.ids.get(number)
    }

    /// The number of this id; the next one if the id is new.
    pub(crate) fn number(&mut self, id: &str) -> u32 {
        let Self { ids, numbers, hasher } = self;
        let hash = hasher.hash_one(id);
        let is_same = |number: &u32| ids.get(*number) == id;
        if let Some(number) = numbers.find(hash, is_same) {
            return *number;
        }
        let number = ids.push(id);
        numbers.insert_unique(hash, number, |number| hasher.hash_one(ids.get(*number)));
        number
    }
}

/// Whether they have the same ids with the same numbers.
impl PartialEq for Products {
    fn eq(&self, other: &Self) -> bool {
        self.ids == other.ids
    }
}

/// Texts by number, in one allocation.
#[derive(Debug, Default, PartialEq)]
struct Ids {
    texts: String,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl Ids {
    fn get(&self, number: u32) -> &str {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.texts[start..self.ends[number]]
    }

    fn push(&mut self, id: &str) -> u32 {
        let number = self.ends.len() as u32;
        self.texts.push_str(id);
        self.ends.push(self.texts.len());
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_one_number() {
        let mut products = Products::default();
        let ids: Vec<String> = (0..2_000).map(|number| "é".repeat(number % 50) + &number.to_string()).collect();
        for _ in 0..2 {
            for (number, id) in (0..).zip(&ids) {
                assert_eq!((products.number(id), products.id(number)), (number, id.as_str()));
            }
        }
    }
}
