//! Whose request it is, as calls take it.

use std::marker::PhantomData;
use std::sync::Arc;

/// A label for requests.
///
/// [`FastObjectLockManager::owner`](crate::FastObjectLockManager::owner) makes it.
/// It means something to the manager that made it; another one shows it as whatever name has that number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub(crate) u32);

/// An owner as calls take it.
///
/// One that was made before, or a name, which is looked up on the way.
#[derive(Debug, Clone, Copy)]
pub enum OwnerRef<'a> {
    /// Made before.
    Known(Owner),
    /// By name.
    Named(&'a str),
    /// A session, which is more than a label: `&Session` turns into this.
    Session(SessionRef<'a>),
}

impl From<Owner> for OwnerRef<'_> {
    #[inline(always)]
    fn from(owner: Owner) -> Self {
        Self::Known(owner)
    }
}

impl<'a> From<&'a str> for OwnerRef<'a> {
    #[inline(always)]
    fn from(name: &'a str) -> Self {
        Self::Named(name)
    }
}

impl<'a> From<&'a Arc<str>> for OwnerRef<'a> {
    #[inline(always)]
    fn from(name: &'a Arc<str>) -> Self {
        Self::Named(name)
    }
}

impl<'a> From<&'a Box<str>> for OwnerRef<'a> {
    #[inline(always)]
    fn from(name: &'a Box<str>) -> Self {
        Self::Named(name)
    }
}

impl<'a> From<&'a std::borrow::Cow<'_, str>> for OwnerRef<'a> {
    #[inline(always)]
    fn from(name: &'a std::borrow::Cow<'_, str>) -> Self {
        Self::Named(name)
    }
}

impl<'a> From<&'a String> for OwnerRef<'a> {
    #[inline(always)]
    fn from(name: &'a String) -> Self {
        Self::Named(name)
    }
}

/// A session that is there for as long as this is; see [`OwnerRef::Session`].
#[derive(Debug, Clone, Copy)]
pub struct SessionRef<'a> {
    pub(crate) number: u32,
    /// Tells managers apart.
    pub(crate) manager: usize,
    session: PhantomData<&'a ()>,
}

impl<'a> SessionRef<'a> {
    /// Names the session of a number, which is `session`'s.
    #[inline(always)]
    pub(crate) fn new<S>(_session: &'a S, number: u32, manager: usize) -> Self {
        Self { number, manager, session: PhantomData }
    }
}
