//! The number of files that the process may open: each connection is one.

/// Raises the number of open files to the most that the system allows this process. The usual number, 1,024, is meant
/// for programs that use `select`.
pub(super) fn allow_many() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes into `limit`, which this function owns.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 || limit.rlim_cur >= limit.rlim_max {
        return;
    }
    let usual = std::mem::replace(&mut limit.rlim_cur, limit.rlim_max);
    // SAFETY: setrlimit reads `limit`, which this function owns.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => tracing::debug!(from = usual, to = limit.rlim_cur, "raised the number of open files"),
        _ => tracing::warn!(files = usual, "cannot raise the number of open files"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_files_that_the_system_allows_may_be_open() {
        super::allow_many();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 1 };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        assert_eq!(limit.rlim_cur, limit.rlim_max);
    }
}
