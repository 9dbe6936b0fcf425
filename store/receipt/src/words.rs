//! The words of a statement. Each list is closed, so that no text from outside reaches a receipt. The order of a list
//! is the order in a text.

/// A word of one of the lists.
pub(crate) trait Word: Copy + Ord + Sized + 'static {
    const ALL: &'static [Self];

    fn as_str(self) -> &'static str;

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|word| word.as_str() == text)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $list:ident: $($word:ident = $text:literal, $meaning:literal;)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $list {
            $(#[doc = $meaning] $word,)+
        }

        impl $list {
            /// All words of the list, in the order of a text.
            pub const ALL: &[Self] = &[$(Self::$word),+];

            /// The word as in a statement.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)+ }
            }

            /// The meaning in plain language, for a person who reads the receipt.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$word => $meaning,)+ }
            }
        }

        impl Word for $list {
            const ALL: &'static [Self] = Self::ALL;

            fn as_str(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

words! {
    /// How a place erases.
    Method:
    CryptoErase = "crypto-erase-aes-256-gcm",
        "keys of AES-256-GCM overwritten in place, both copies, synced (NIST SP 800-88 cryptographic erase)";
    DeleteRows = "delete-rows", "rows deleted, and names and attributes removed from the rows that remain";
    DeleteObjects = "delete-objects", "objects and their older versions deleted";
}

words! {
    /// The program that erased.
    Program:
    Gatehoused = "gatehoused", "the daemon of an appliance";
    Gatehouse = "gatehouse", "the central tools";
}

words! {
    /// What a destroyed key sealed.
    KeyKind:
    Person = "person", "keys of people";
    Media = "media", "keys of pictures and clips";
}

words! {
    /// What was destroyed. A list contains only what the place counts.
    Destroyed:
    People = "people", "entries of people";
    Templates = "templates", "face templates";
    References = "references", "links from visits to the person";
    Events = "events", "visits from which the person was removed";
    Attributes = "attributes", "visits whose attributes were removed";
    Pictures = "pictures", "pictures and clips";
    Files = "files", "entries of files";
    Objects = "objects", "objects in the bucket";
    Bytes = "bytes", "bytes of files or objects";
}

words! {
    /// What was checked after the erasure. The number is how many items were checked; each of them passed.
    Check:
    SlotFree = "slot-free", "copies of key slots that are free";
    ProfileRefused = "profile-refused", "profiles that no longer open";
    TemplateRefused = "template-refused", "templates that no longer open";
    SearchOther = "search-other", "searches with a template of the person that do not find the person";
    MediaRefused = "media-refused", "pictures that no longer open";
    RowsAbsent = "rows-absent", "tables without the person";
    ObjectsAbsent = "objects-absent", "objects that are gone";
    VersionsAbsent = "versions-absent", "objects without an older version";
}

words! {
    /// What is left at a place.
    Leftover:
    UnrecognizedPictures = "unrecognized-pictures", "pictures in which the person was not recognized";
    Strangers = "strangers", "visits in which the person was not recognized";
    Backups = "backups", "backups from before the erasure";
    FlashSpareBlocks = "flash-spare-blocks", "encrypted blocks that the flash keeps in reserve";
    DatabaseLog = "database-log", "the write-ahead log of the database and its archive";
    DatabasePages = "database-pages", "unused space of the database";
    Replicas = "replicas", "replicas of the database";
    Archive = "archive", "archived visits, which name no person";
    Reference = "reference", "the keyed reference of the person in the record of the erasure";
}

words! {
    /// What ends a leftover that has no date.
    Condition:
    RootKeyDestroyed = "root-key-destroyed", "the root key is destroyed";
    Vacuumed = "vacuumed", "the database reuses the space";
    ReplicasApplied = "replicas-applied", "the replicas apply the change";
    RetentionApplied = "retention-applied", "the retention period of the data ends";
    BackupsExpired = "backups-expired", "all backups from before the erasure are deleted";
    OrderClosed = "order-closed", "the record of the erasure is deleted";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<W: Word + std::fmt::Debug>() {
        for word in W::ALL {
            assert_eq!(W::parse(word.as_str()), Some(*word));
            assert!(word.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            assert_ne!(word.as_str(), crate::text::NONE);
        }
        assert_eq!(W::parse("other"), None);
    }

    #[test]
    fn every_word_parses_and_no_other_text_does() {
        check::<Method>();
        check::<Program>();
        check::<KeyKind>();
        check::<Destroyed>();
        check::<Check>();
        check::<Leftover>();
        check::<Condition>();
    }
}
