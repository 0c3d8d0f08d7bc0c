//! The order of use of a shard's slots: a doubly linked list whose links are indices.
//!
//! Nodes live apart from the entries, 16 bytes each, so that relinking touches little memory.
//! Invariant: stamps never increase from the front (used last) to the back (used longest ago).

/// Which slot of a shard.
pub(super) type Slot = u32;

/// When a slot was last used: nanoseconds since the store was made, and some; see [`Clock`].
///
/// [`Clock`]: super::clock::Clock
pub(super) type Stamp = u64;

const NIL: Slot = Slot::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    newer: Slot,
    older: Slot,
    stamp: Stamp,
}

/// Slots in the order of their last use.
#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<Node>,
    newest: Slot,
    oldest: Slot,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            newest: NIL,
            oldest: NIL,
        }
    }
}

impl Order {
    /// The slot used longest ago.
    pub(super) fn oldest(&self) -> Option<Slot> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// The slot used next after `slot`.
    pub(super) fn next_newer(&self, slot: Slot) -> Option<Slot> {
        let newer = self.node(slot).newer;
        (newer != NIL).then_some(newer)
    }

    pub(super) fn stamp(&self, slot: Slot) -> Stamp {
        self.node(slot).stamp
    }

    /// Puts a slot that is not in the list, and is at most one past those ever seen, in front.
    pub(super) fn insert(&mut self, slot: Slot, stamp: Stamp) {
        if slot as usize == self.nodes.len() {
            let (newer, older) = (NIL, NIL);
            self.nodes.push(Node {
                newer,
                older,
                stamp,
            });
        }
        self.link_front(slot, stamp);
    }

    /// Puts a slot like [`insert`](Self::insert) does, but behind everything used after `stamp`.
    ///
    /// Looks from the back: cheap for what is among the oldest.
    pub(super) fn insert_aged(&mut self, slot: Slot, stamp: Stamp) {
        let mut newer = self.oldest;
        while newer != NIL && self.node(newer).stamp < stamp {
            newer = self.node(newer).newer;
        }
        if newer == NIL {
            self.insert(slot, stamp);
            return;
        }
        let older = self.node(newer).older;
        let node = Node {
            newer,
            older,
            stamp,
        };
        if slot as usize == self.nodes.len() {
            self.nodes.push(node);
        } else {
            *self.node_mut(slot) = node;
        }
        self.node_mut(newer).older = slot;
        if older == NIL {
            self.oldest = slot;
        } else {
            self.node_mut(older).newer = slot;
        }
    }

    /// Moves a listed slot to the front.
    pub(super) fn refresh(&mut self, slot: Slot, stamp: Stamp) {
        if slot == self.newest {
            let node = self.node_mut(slot);
            node.stamp = node.stamp.max(stamp);
        } else {
            self.remove(slot);
            self.link_front(slot, stamp);
        }
    }

    /// Takes a listed slot out.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Node { newer, older, .. } = *self.node(slot);
        if newer == NIL {
            self.newest = older;
        } else {
            self.node_mut(newer).older = older;
        }
        if older == NIL {
            self.oldest = newer;
        } else {
            self.node_mut(older).newer = newer;
        }
    }

    fn link_front(&mut self, slot: Slot, stamp: Stamp) {
        let front = self.newest;
        let mut stamp = stamp;
        if front == NIL {
            self.oldest = slot;
        } else {
            let front = self.node_mut(front);
            front.newer = slot;
            // Another thread may have read the clock before and taken the lock after us.
            stamp = stamp.max(front.stamp);
        }
        *self.node_mut(slot) = Node {
            newer: NIL,
            older: front,
            stamp,
        };
        self.newest = slot;
    }

    fn node(&self, slot: Slot) -> &Node {
        &self.nodes[slot as usize]
    }

    fn node_mut(&mut self, slot: Slot) -> &mut Node {
        &mut self.nodes[slot as usize]
    }
}
