//! A list that most often has one element, or none.

#![expect(
    clippy::inline_always,
    reason = "an entry would go through memory once for each layer"
)]

use std::fmt;
use std::ops::{Deref, DerefMut};

/// A list that keeps a single element without an allocation.
///
/// It is read like a slice, and grows like a vector; what a put [displaces](crate::PutOutcome) is
/// one, since most often that is one entry.
///
/// ```
/// use keepwarm::Few;
///
/// let mut list = Few::new();
/// list.push(1);
/// list.extend([2, 3]);
/// assert_eq!(list[..], [1, 2, 3]);
/// assert_eq!(list.into_iter().sum::<i32>(), 6);
/// ```
#[derive(Clone)]
pub struct Few<T>(Kept<T>);

#[derive(Clone)]
enum Kept<T> {
    One(Option<T>),
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// An empty list.
    ///
    /// ```
    /// assert!(keepwarm::Few::<u8>::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self(Kept::One(None))
    }

    /// Adds an element at the end.
    ///
    /// ```
    /// let mut list = keepwarm::Few::new();
    /// list.push("a");
    /// assert_eq!(list.len(), 1);
    /// ```
    #[inline(always)]
    pub fn push(&mut self, element: T) {
        match &mut self.0 {
            Kept::One(first @ None) => *first = Some(element),
            Kept::One(first) => {
                let mut all = Vec::with_capacity(4);
                all.extend(first.take());
                all.push(element);
                self.0 = Kept::Many(all);
            }
            Kept::Many(all) => all.push(element),
        }
    }

    /// Removes all elements.
    ///
    /// ```
    /// let mut list: keepwarm::Few<u8> = vec![1, 2].into();
    /// list.clear();
    /// assert!(list.is_empty());
    /// ```
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            Kept::One(first) => first.as_slice(),
            Kept::Many(all) => all,
        }
    }
}

impl<T> DerefMut for Few<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Kept::One(first) => first.as_mut_slice(),
            Kept::Many(all) => all,
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(all: Vec<T>) -> Self {
        Self(Kept::Many(all))
    }
}

impl<T> Extend<T> for Few<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        elements.into_iter().for_each(|element| self.push(element));
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut list = Self::new();
        list.extend(elements);
        list
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (first, all) = match self.0 {
            Kept::One(first) => (first, Vec::new()),
            Kept::Many(all) => (None, all),
        };
        first.into_iter().chain(all)
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_however_it_is_kept() {
        for len in 0..6 {
            let expected: Vec<usize> = (0..len).collect();
            let mut list: Few<usize> = expected.iter().copied().collect();
            assert_eq!(*list, *expected);
            assert_eq!(list, Few::from(expected.clone()));
            assert_eq!(format!("{list:?}"), format!("{expected:?}"));
            assert!((&list).into_iter().eq(&expected));
            assert!(list.clone().into_iter().eq(expected));
            list.iter_mut().for_each(|n| *n += 1);
            assert_eq!(list.last().copied().unwrap_or(0), len);
            list.clear();
            assert!(list.is_empty());
        }
    }
}
