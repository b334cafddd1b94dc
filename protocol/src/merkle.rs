//! Merkle trees over ordered leaves, in the shape of RFC 9162 section 2.1: a tree of n leaves splits at the largest
//! power of two below n. Leaves and nodes are hashed in domains of their own, so neither passes for the other.

use crate::hash::{Domain, Hash, Hasher, hash};

/// The root of a tree without leaves.
pub fn empty_root() -> Hash {
    hash(Domain::MerkleLeaf, &[])
}

fn leaf_hash(leaf: &Hash) -> Hash {
    hash(Domain::MerkleLeaf, leaf.as_bytes())
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hasher::new(Domain::MerkleNode).bytes(left.as_bytes()).bytes(right.as_bytes()).finish()
}

/// A tree that keeps its levels, so that a changed leaf costs one path.
///
/// Level 0 holds the leaves' hashes; a node without a sibling stands in the next level as it is, which gives the
/// shape of RFC 9162.
#[derive(Clone, Debug, Default)]
pub struct MerkleTree {
    levels: Vec<Vec<Hash>>,
}

impl MerkleTree {
    /// How many leaves.
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Whether there is no leaf.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets a leaf, or appends one at `index == len()`. An index beyond that is ignored.
    pub fn set(&mut self, index: usize, leaf: &Hash) {
        if index > self.len() {
            return;
        }
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        put(&mut self.levels[0], index, leaf_hash(leaf));
        let (mut level, mut index) = (0, index);
        while self.levels[level].len() > 1 {
            let left = index & !1;
            let nodes = &self.levels[level];
            let parent = match (nodes.get(left), nodes.get(left + 1)) {
                (Some(left), Some(right)) => node_hash(left, right),
                (Some(only), None) => *only,
                (None, _) => return,
            };
            level += 1;
            index /= 2;
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            put(&mut self.levels[level], index, parent);
        }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or_else(empty_root)
    }

    /// The path that proves a leaf, from its sibling up.
    pub fn path(&self, index: usize) -> Option<Vec<Hash>> {
        if index >= self.len() {
            return None;
        }
        let mut path = Vec::new();
        let mut index = index;
        for level in &self.levels {
            if let Some(sibling) = level.get(index ^ 1) {
                path.push(*sibling);
            }
            index /= 2;
        }
        Some(path)
    }
}

fn put(level: &mut Vec<Hash>, index: usize, hash: Hash) {
    match level.get_mut(index) {
        Some(place) => *place = hash,
        None => level.push(hash),
    }
}

/// Whether `path` proves that `leaf` is leaf number `index` of a tree of `size` leaves with this root.
pub fn proves(root: &Hash, size: u64, index: u64, leaf: &Hash, path: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut index, mut last, mut hash) = (index, size - 1, leaf_hash(leaf));
    let mut path = path.iter();
    while last > 0 {
        // The last node of a level has no sibling where its index is even.
        if index != last || index % 2 == 1 {
            let Some(sibling) = path.next() else { return false };
            hash = if index % 2 == 1 { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
        }
        index /= 2;
        last /= 2;
    }
    path.next().is_none() && hash == *root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(number: usize) -> Hash {
        hash(Domain::CheckpointLeaf, &number.to_be_bytes())
    }

    /// RFC 9162, section 2.1.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [only] => leaf_hash(only),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&naive(&leaves[..split]), &naive(&leaves[split..]))
            }
        }
    }

    proptest! {
        #[test]
        fn the_kept_tree_equals_the_rfcs_and_every_leaf_is_proved(size in 0_usize..70, changes in prop::collection::vec((0_usize..70, 100_usize..200), 0..10)) {
            let mut leaves: Vec<Hash> = (0..size).map(leaf).collect();
            let mut tree = MerkleTree::default();
            for (index, leaf) in leaves.iter().enumerate() {
                tree.set(index, leaf);
            }
            for (index, number) in changes.into_iter().filter(|(index, _)| *index < size) {
                // Real leaves name their own number; two that are equal would prove each other's place.
                leaves[index] = leaf(number * 100 + index);
                tree.set(index, &leaves[index]);
            }
            prop_assert_eq!(tree.root(), naive(&leaves));
            for (index, leaf) in leaves.iter().enumerate() {
                let path = tree.path(index).unwrap_or_default();
                prop_assert!(proves(&tree.root(), size as u64, index as u64, leaf, &path));
                prop_assert!(!proves(&tree.root(), size as u64, index as u64, &super::hash(Domain::Blob, &[]), &path));
                prop_assert!(!proves(&tree.root(), size as u64, (index as u64 + 1) % (size as u64 + 1), leaf, &path) || size == 1);
            }
        }
    }
}
