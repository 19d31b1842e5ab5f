//! Virtual time: what happens next, in order, and nothing in between.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use casnode_node::lab::Mono;

/// What is due, the earliest first; of two at the same time the one that was entered first.
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Due<E>>>,
    now: Mono,
    entered: u64,
}

struct Due<E> {
    at: Mono,
    order: u64,
    event: E,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            now: Mono::default(),
            entered: 0,
        }
    }

    pub fn now(&self) -> Mono {
        self.now
    }

    /// How many events there have been.
    #[cfg(test)]
    pub fn entered(&self) -> u64 {
        self.entered
    }

    pub fn after(&mut self, span: Duration, event: E) {
        self.at(self.now.plus(span), event);
    }

    /// An event of the past happens now.
    pub fn at(&mut self, at: Mono, event: E) {
        let at = at.max(self.now);
        let order = self.entered;
        self.entered += 1;
        self.heap.push(Reverse(Due { at, order, event }));
    }

    /// The next event; it is its time then.
    pub fn next(&mut self) -> Option<E> {
        let Reverse(due) = self.heap.pop()?;
        self.now = due.at;
        Some(due.event)
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Due<E> {}
