//! What the kernel refuses a build: system calls (seccomp) and files beyond its own (landlock).
//!
//! Applied by the sandbox's first process to itself; everything that it starts inherits both for good.

use std::{collections::BTreeMap, io, path::Path};

use landlock::{
    ABI, Access as _, AccessFs, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Calls that only serve to administer a machine, to look into other processes, or to reach rarely tested parts
/// of the kernel. A compiler needs none of them.
const DENIED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_msgget,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_semget,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    // Memory that no process maps would be counted nowhere.
    libc::SYS_shmget,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Calls that programs try and do without where the kernel does not know them.
const UNKNOWN: &[libc::c_long] = &[
    // Its flags lie in memory, where a filter cannot see whether they ask for namespaces; libc then uses clone.
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    // Memory that no process maps would be counted nowhere.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
];

/// What `clone` may not make.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// The families of sockets that a build may make.
const SOCKETS: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// On x86-64 the same calls have second numbers, those of the x32 interface.
const X32: libc::c_long = if cfg!(target_arch = "x86_64") {
    0x4000_0000
} else {
    0
};

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// Denies the system calls to this process and all that it starts. It must have no new privileges.
pub(super) fn system_calls() -> io::Result<()> {
    let mut refused: Rules = everything(DENIED);
    let condition = |argument, operator, value: libc::c_int| {
        SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            operator,
            value.unsigned_abs().into(),
        )
        .map_err(io::Error::other)
    };
    let mut namespaces = Vec::new();
    for flag in NAMESPACES {
        let asked = condition(0, SeccompCmpOp::MaskedEq(flag.unsigned_abs().into()), *flag)?;
        namespaces.push(SeccompRule::new(vec![asked]).map_err(io::Error::other)?);
    }
    let others: Result<Vec<_>, _> = SOCKETS
        .iter()
        .map(|family| condition(0, SeccompCmpOp::Ne, *family))
        .collect();
    let sockets = vec![SeccompRule::new(others?).map_err(io::Error::other)?];
    // A terminal's input is not ours to write; there is no terminal, and this keeps it so.
    let terminal =
        vec![SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, TIOCSTI)?]).map_err(io::Error::other)?];
    for (call, rules) in [
        (libc::SYS_clone, namespaces),
        (libc::SYS_socket, sockets),
        (libc::SYS_ioctl, terminal),
    ] {
        refused.insert(call | X32, rules.clone());
        refused.insert(call, rules);
    }
    apply(refused, libc::EPERM)?;
    apply(everything(UNKNOWN), libc::ENOSYS)
}

/// `TIOCSTI` as a number that every libc has the same type for.
const TIOCSTI: libc::c_int = 0x5412;

fn everything(calls: &[libc::c_long]) -> Rules {
    calls
        .iter()
        .flat_map(|call| [(*call, Vec::new()), (*call | X32, Vec::new())])
        .collect()
}

fn apply(rules: Rules, errno: libc::c_int) -> io::Result<()> {
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// Restricts this process to reading and running what its root shows, and to writing below `writable`.
///
/// The second wall behind the read-only mounts: a kernel without landlock leaves those alone in place, which the
/// answer tells.
pub(super) fn files(writable: &[&Path]) -> io::Result<bool> {
    let abi = ABI::V5;
    let status: RestrictionStatus = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules(["/"], AccessFs::from_read(abi))))
        .and_then(|rules| rules.add_rules(path_beneath_rules(writable, AccessFs::from_all(abi))))
        .and_then(|rules| rules.restrict_self())
        .map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
