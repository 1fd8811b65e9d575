//! Targets, and who may log in to them.

use crate::input::{bytes, optional_text, text};
use crate::result::{Outcome, guard, lunette_result};
use crate::server::{Plan, SERVERS, lunette_server};
use iscsit::config::{AuthMethod, DefaultsPatch, InitiatorPatch, Patch, TargetPatch};
use std::ffi::c_char;

/// Adds a target: "iqn.2026-11.com.example:second". It is reached at every address the server listens on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_target(server: *mut lunette_server, name: *const c_char) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let name = unsafe { text(name, "name") }?;
        let patch = TargetPatch { name: Some(name), ..TargetPatch::default() };
        change(server, &mut |config| Ok(vec![config.plan_create_target(&patch, [0; 16])?.1]))
    })
}

/// Removes a target. Its sessions are asked to log out and end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_remove_target(
    server: *mut lunette_server,
    name: *const c_char,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let name = unsafe { text(name, "name") }?;
        change(server, &mut |config| Ok(vec![config.plan_delete_target(&name, true, true)?]))
    })
}

/// Whether initiators have to prove themselves by CHAP to log in to any target of the server. Initiators' secrets are
/// set by lunette_server_add_initiator; one without a secret cannot log in then.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_server_demand_chap(server: *mut lunette_server, demand: bool) -> lunette_result {
    guard(|| {
        let method = if demand { AuthMethod::Chap } else { AuthMethod::None };
        let patch = DefaultsPatch { auth: Patch::Set(method), ..DefaultsPatch::default() };
        change(server, &mut |config| Ok(vec![config.plan_modify_defaults(&patch)?]))
    })
}

/// Tells by which secret an initiator proves itself: 12 to 255 bytes, any.
///
/// `initiator` is its iSCSI name. `user` is what it calls itself in CHAP; NULL for its iSCSI name. An initiator that is
/// there already gets the new secret.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_initiator(
    server: *mut lunette_server,
    initiator: *const c_char,
    user: *const c_char,
    secret: *const u8,
    secret_length: usize,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let (name, user, secret) = unsafe {
            (text(initiator, "initiator")?, optional_text(user, "user")?, bytes(secret, secret_length, "secret")?)
        };
        let patch = InitiatorPatch {
            chap_user: user.map_or(Patch::Clear, Patch::Set),
            chap_secret: Patch::Set(secret.to_vec()),
        };
        change(server, &mut |config| {
            Ok(vec![match config.initiator(&name) {
                Some(_) => config.plan_modify_initiator(&name, &patch)?,
                None => config.plan_create_initiator(&name, &patch)?,
            }])
        })
    })
}

/// Sets the secret, 12 to 255 bytes, by which a target proves itself to initiators that ask for it (mutual CHAP).
///
/// `user` is what it calls itself in CHAP; NULL for its name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_set_target_secret(
    server: *mut lunette_server,
    target: *const c_char,
    user: *const c_char,
    secret: *const u8,
    secret_length: usize,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let (name, user, secret) =
            unsafe { (text(target, "target")?, optional_text(user, "user")?, bytes(secret, secret_length, "secret")?) };
        let patch = TargetPatch {
            chap_user: user.map_or(Patch::Clear, Patch::Set),
            chap_secret: Patch::Set(secret.to_vec()),
            ..TargetPatch::default()
        };
        change(server, &mut |config| Ok(config.plan_modify_target(&name, &patch, true)?.1))
    })
}

fn change(server: *mut lunette_server, plan: &mut Plan<'_>) -> Outcome {
    SERVERS.get(server)?.with(|server| server.change_iscsi(plan))
}
