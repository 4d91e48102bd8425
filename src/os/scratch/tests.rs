use super::*;

// Each test that leaves a directory without a lock has names of its own: others remove it else.
const FILES: &[(&str, &str)] = &[("a.cjs", "one"), ("b.cjs", "two")];
const OTHERS: &[(&str, &str)] = &[("c.cjs", "one"), ("d.cjs", "two")];
const LOCKED: &[(&str, &str)] = &[("e.cjs", "one")];

#[test]
fn files_that_were_tidied_away_come_back_and_all_go_in_the_end() {
    let mut scratch = Scratch::new(FILES, None).unwrap();
    let first = scratch.path("a.cjs").unwrap();
    assert_eq!(fs::read_to_string(&first).unwrap(), "one");
    fs::remove_file(first.with_file_name("b.cjs")).unwrap();
    let path = scratch.path("b.cjs").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let path = scratch.path("b.cjs").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    drop(scratch);
    assert!(!path.exists());
}

#[test]
fn a_directory_that_somebody_else_made_is_left_alone() {
    let link = |to: &Path, path: &Path| std::os::unix::fs::symlink(to, path).unwrap();
    for is_link in [false, true] {
        let mut scratch = Scratch::new(OTHERS, None).unwrap();
        let (path, place) = (scratch.path("c.cjs").unwrap(), scratch.place().clone());
        let directory = place.directory();
        // Ours is not gone, or its number could be given to another one at once.
        let ours = directory.with_extension("ours");
        fs::rename(directory, &ours).unwrap();
        if is_link {
            link(&ours, directory)
        } else {
            fs::create_dir(directory).unwrap()
        }
        for name in ["c.cjs", "d.cjs"] {
            fs::write(directory.join(name), "evil").unwrap();
        }
        // Or they would look as if this very program had left them behind.
        for directory in [directory, &ours] {
            fs::write(directory.join("more"), "").unwrap();
        }
        let mut after = Scratch::restore(OTHERS, None, place.clone(), None);
        for scratch in [&mut scratch, &mut after] {
            let anew = scratch.path("c.cjs").unwrap();
            assert_ne!(anew, path);
            assert_eq!(fs::read_to_string(anew).unwrap(), "one");
        }
        drop(scratch);
        drop(Scratch::restore(OTHERS, None, place.clone(), None));
        assert_eq!(fs::read_to_string(&path).unwrap(), "evil");
        fs::remove_dir_all(ours).unwrap();
        if is_link { fs::remove_file(directory) } else { fs::remove_dir_all(directory) }.unwrap();
    }
}

#[test]
fn another_program_goes_on_with_the_directory() {
    let mut before = Scratch::new(FILES, None).unwrap();
    let path = before.path("a.cjs").unwrap();
    let mut after = Scratch::restore(&[("a.cjs", "newer")], None, before.place().clone(), None);
    assert_eq!(after.path("a.cjs").unwrap(), path);
    assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
    drop(after);
    assert!(!path.exists());
    let mut anew = Scratch::restore(FILES, None, before.place().clone(), None);
    assert_eq!(fs::read_to_string(anew.path("b.cjs").unwrap()).unwrap(), "two");
}

#[test]
fn a_user_has_to_be_able_to_enter_each_directory_on_the_way() {
    let account = |uid, groups: &[u32]| Account {
        uid: Some(uid),
        gid: 54_321,
        groups: groups.to_vec(),
        home: None,
    };
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let own = outer.path().metadata().unwrap();
    for (mode, uid, groups, may) in [
        (0o700, 54_321, &[][..], false),
        (0o711, 54_321, &[], true),
        (0o710, 54_321, &[own.gid()], true),
        (0o701, 54_321, &[own.gid()], false),
        (0o700, own.uid(), &[], true),
        (0o700, 0, &[], true),
    ] {
        fs::set_permissions(outer.path(), Permissions::from_mode(mode)).unwrap();
        let checked = check_reader(&inner, &account(uid, groups));
        assert_eq!(checked.is_ok(), may, "{mode:o} {uid} {groups:?} {checked:?}");
    }
}

#[test]
fn what_a_killed_one_left_is_removed_and_all_else_stays() {
    let base = tempfile::tempdir().unwrap();
    let left = |name: &str, files: &[&str]| {
        let path = base.path().join(name);
        fs::create_dir(&path).unwrap();
        files.iter().for_each(|file| fs::write(path.join(file), "").unwrap());
        path
    };
    let dead = left("sticky-run-dead", &["a.cjs", "b.cjs"]);
    let live = left("sticky-run-live", &["a.cjs", "b.cjs"]);
    let held = lock(open_directory(&live).unwrap()).unwrap();
    let others = [
        left("sticky-run-begun", &["a.cjs"]),
        left("sticky-run-other", &["a.cjs", "b.cjs", "c"]),
        left("mine", &["a.cjs", "b.cjs"]),
        live.clone(),
    ];
    std::os::unix::fs::symlink(&others[2], base.path().join("sticky-run-link")).unwrap();
    remove_left_behind(base.path(), FILES);
    assert!(!dead.exists());
    for path in &others {
        assert!(path.join("a.cjs").exists(), "{}", path.display());
    }
    drop(held);
    // A test that forks meanwhile has the lock too, until its child executes something.
    let is_removed = (0..100_000).any(|_| {
        remove_left_behind(base.path(), FILES);
        !live.exists()
    });
    assert!(is_removed);
}

#[test]
fn nobody_takes_a_directory_for_left_behind_while_it_goes_over_to_another_program() {
    let base = tempfile::tempdir().unwrap();
    let begun = Scratch::restore(FILES, None, Place::default(), None);
    let (place, held) = begun.begin_below(base.path()).unwrap();
    let mut after = Scratch::restore(FILES, None, place, held.map(OwnedFd::from));
    remove_left_behind(base.path(), FILES);
    assert!(after.path("a.cjs").unwrap().starts_with(base.path()));
    assert!(after.lock().is_some_and(|lock| lock.try_lock_shared().is_ok()));
}

#[test]
fn what_is_the_same_is_not_written_anew() {
    let mut before = Scratch::new(FILES, None).unwrap();
    let path = before.path("a.cjs").unwrap();
    let inode = |name: &str| path.with_file_name(name).metadata().unwrap().ino();
    let inodes = ["a.cjs", "b.cjs"].map(inode);
    let newer: Files = &[("a.cjs", "one"), ("b.cjs", "newer")];
    let mut after = Scratch::restore(newer, None, before.place().clone(), None);
    assert_eq!(after.path("a.cjs").unwrap(), path);
    assert_eq!(inode("a.cjs"), inodes[0]);
    assert_ne!(inode("b.cjs"), inodes[1]);
}

#[test]
fn somebody_elses_lock_is_no_reason_not_to_go_on() {
    let mut scratch = Scratch::new(LOCKED, None).unwrap();
    (scratch.lock, scratch.stale) = (None, true);
    let directory = File::open(scratch.place().directory()).unwrap();
    directory.try_lock().unwrap();
    assert_eq!(fs::read_to_string(scratch.path("e.cjs").unwrap()).unwrap(), "one");
}

#[test]
fn no_directory_will_do_that_everybody_can_move() {
    let outer = tempfile::tempdir().unwrap();
    let base = outer.path().join("base");
    fs::create_dir(&base).unwrap();
    let begun = Scratch::restore(LOCKED, None, Place::default(), None);
    for (around, inside, will_do) in
        [(0o755, 0o755, true), (0o755, 0o777, false), (0o755, 0o1777, true), (0o777, 0o755, false)]
    {
        fs::set_permissions(outer.path(), Permissions::from_mode(around)).unwrap();
        fs::set_permissions(&base, Permissions::from_mode(inside)).unwrap();
        let made = begun.begin_below(&base);
        assert_eq!(made.is_ok(), will_do, "{around:o} {inside:o} {made:?}");
    }
}
