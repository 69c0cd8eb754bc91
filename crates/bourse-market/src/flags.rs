//! A small set of named bits, so that capability checks on the hot path are one `and`.

/// Defines a set newtype over `u32` with named members; see the uses for their meaning.
macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $bit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// The empty set.
            pub const NONE: Self = Self(0);
            /// Every member.
            pub const ALL: Self = Self($((1 << $bit) |)* 0);
            $($(#[$member_doc])* pub const $member: Self = Self(1 << $bit);)*

            const MEMBERS: &'static [(Self, &'static str)] = &[$((Self::$member, $text),)*];

            /// Members of either set.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Members of this set that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Whether every member of `other` is in this set.
            pub const fn contains(self, other: Self) -> bool {
                other.0 & !self.0 == 0
            }

            /// Whether the set has no member.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The members, one set each, in the order of their bits.
            pub fn members(self) -> impl Iterator<Item = Self> {
                Self::MEMBERS.iter().map(|(member, _)| *member).filter(move |member| self.contains(*member))
            }

            /// Reads the name of one member.
            pub fn parse(text: &str) -> Option<Self> {
                Self::MEMBERS.iter().find(|(_, name)| *name == text).map(|(member, _)| *member)
            }

            /// The members' names, in the order of their bits.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::MEMBERS.iter().filter(move |(member, _)| self.contains(*member)).map(|(_, name)| *name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                for (n, name) in self.names().enumerate() {
                    if n > 0 {
                        f.write_str(", ")?;
                    }
                    f.write_str(name)?;
                }
                Ok(())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}
pub(crate) use flags;
