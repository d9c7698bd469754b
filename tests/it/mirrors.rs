//! pip, npm, apt-get and git before two mirrors that agree on a 404 and one that hangs: they take the 404 for an answer, where
//! they would ask a 502 again and again. Where one isn't installed its test says so on standard error and passes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use red_tentacle::config::OnFailure;
use tempfile::TempDir;

use crate::harness::{Fake, Proxy, Raw, SOON, ended, has, output, patiently};

/// Two mirrors of a folder, and one that hangs.
struct Mirrors {
    folder: TempDir,
    proxy: Proxy,
    _kept: ([Fake; 2], Raw),
}

impl Mirrors {
    fn new() -> Mirrors {
        let folder = TempDir::new().expect("a folder");
        let mirrors = [(); 2].map(|()| mirror_of(folder.path()));
        let hanging = Raw::hanging();
        let urls = [hanging.url.clone(), mirrors[0].url.clone(), mirrors[1].url.clone()];
        let proxy = Proxy::with(&urls, |config| {
            patiently(config);
            config.on_failure = OnFailure::Best { within: Some(Duration::from_millis(50)) };
        });
        Mirrors { folder, proxy, _kept: (mirrors, hanging) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.proxy.address)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("room");
    }
}

/// Serves a folder's files; what isn't there is a 404.
fn mirror_of(folder: &Path) -> Fake {
    let folder = folder.to_owned();
    Fake::answering(move |request| {
        let path = request.target.split('?').next().unwrap_or_default().trim_start_matches('/');
        let path = if path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
        match fs::read(folder.join(path)) {
            // pip reads no index without it.
            Ok(bytes) => Fake::reply(200, bytes)
                .with_header("Content-Type: text/html".parse::<tiny_http::Header>().expect("a field")),
            Err(_) => Fake::reply(404, "not here"),
        }
    })
}

/// Runs a program, which mustn't take as long as one that asks again and again.
fn run(command: Command) -> (bool, String) {
    let began = Instant::now();
    let (status, stdout, stderr) = ended(command, b"");
    assert!(began.elapsed() < SOON, "{:?}: {stderr}", began.elapsed());
    (status.success(), String::from_utf8_lossy(&stdout).into_owned() + &stderr)
}

fn in_folder(program: &str, folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder.path()).env("HOME", folder.path());
    command
}

#[test]
fn pip_goes_on_to_its_next_index_and_tells_what_no_index_has() {
    if !has("python3") {
        return;
    }
    let (mirrors, work) = (Mirrors::new(), TempDir::new().expect("a folder"));
    let wheel = "have-1.0-py3-none-any.whl";
    let made = format!(
        "import zipfile as z; w = z.ZipFile('{wheel}', 'w'); d = 'have-1.0.dist-info/'; w.writestr(d + 'METADATA', \
         'Metadata-Version: 2.1\\nName: have\\nVersion: 1.0\\n'); w.writestr(d + 'WHEEL', \
         'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'); w.writestr(d + 'RECORD', ''); w.close()"
    );
    output(in_folder("python3", &work, &["-c", &made]), b"");
    mirrors.put(&format!("b/{wheel}"), fs::read(work.path().join(wheel)).expect("a wheel"));
    mirrors.put("b/simple/have/index.html", format!("<a href=\"/b/{wheel}\">{wheel}</a>"));
    let (first, second) = (mirrors.url("a/simple"), mirrors.url("b/simple"));
    let pip = |name| {
        let arguments = ["-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check", "download"];
        let mut command = in_folder("python3", &work, &arguments);
        command.args(["--no-deps", "--dest", "got", "--index-url", &first, "--extra-index-url", &second, name]);
        run(command)
    };
    let (is_there, told) = pip("have");
    assert!(is_there && work.path().join("got").join(wheel).exists(), "{told}");
    let (is_there, told) = pip("havenot");
    assert!(!is_there && told.contains("No matching distribution found for havenot"), "{told}");
}

#[test]
fn npm_tells_that_a_package_is_not_there_and_shows_one_that_is() {
    if !has("npm") {
        return;
    }
    let (mirrors, work) = (Mirrors::new(), TempDir::new().expect("a folder"));
    let package = r#"{"name":"have","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"have","version":"1.0.0",
        "dist":{"tarball":"http://localhost/have.tgz","shasum":"x"}}}}"#;
    mirrors.put("have", package);
    let registry = mirrors.url("");
    let npm =
        |name| run(in_folder("npm", &work, &["--registry", &registry, "--cache", "cache", "view", name, "version"]));
    let (is_there, told) = npm("havenot");
    assert!(!is_there && told.contains("E404"), "{told}");
    let (is_there, told) = npm("have");
    assert!(is_there && told.contains("1.0.0"), "{told}");
}

#[test]
fn apt_goes_from_one_form_of_an_index_to_the_next() {
    if !has("apt-get") {
        return;
    }
    let (mirrors, work) = (Mirrors::new(), TempDir::new().expect("a folder"));
    mirrors.put(
        "flat/Packages",
        "Package: have\nVersion: 1.0\nArchitecture: all\nFilename: have.deb\nSize: 1\nSHA256: 0\n\n",
    );
    let list = format!("deb [trusted=yes allow-insecure=yes] {} ./\n", mirrors.url("flat"));
    for folder in ["lists/partial", "cache/archives/partial", "empty"] {
        fs::create_dir_all(work.path().join(folder)).expect("a folder");
    }
    for (file, text) in [("sources.list", list.as_str()), ("status", ""), ("apt.conf", "")] {
        fs::write(work.path().join(file), text).expect("room");
    }
    let at = |name: &str| work.path().join(name).display().to_string();
    let options = [
        format!("Dir::Etc::SourceList={}", at("sources.list")),
        format!("Dir::Etc::SourceParts={}", at("empty")),
        format!("Dir::Etc::Parts={}", at("empty")),
        format!("Dir::State={}", at("")),
        format!("Dir::State::status={}", at("status")),
        format!("Dir::Cache={}", at("cache")),
        "APT::Sandbox::User=".to_owned(),
        "Acquire::Languages=none".to_owned(),
    ];
    let mut command = in_folder("apt-get", &work, &["update"]);
    command.env("APT_CONFIG", at("apt.conf")).env("LC_ALL", "C");
    command.args(options.iter().flat_map(|option| ["-o", option.as_str()]));
    let (is_done, told) = run(command);
    let lists = fs::read_dir(work.path().join("lists")).expect("lists").filter_map(Result::ok);
    let lists: Vec<String> = lists.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let has_list = lists.iter().any(|name| name.contains("_Packages"));
    assert!(is_done && has_list && told.contains("404  Not Found"), "{lists:?} {told}");
}

#[test]
fn git_clones_where_what_need_not_be_there_is_not() {
    if !has("git") {
        return;
    }
    let (mirrors, work) = (Mirrors::new(), TempDir::new().expect("a folder"));
    let git = |arguments: &[&str]| {
        let mut command = in_folder("git", &work, &["-c", "user.name=a", "-c", "user.email=a@example"]);
        command.args(arguments).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        run(command)
    };
    fs::create_dir(work.path().join("source")).expect("a folder");
    fs::write(work.path().join("source/file"), "content").expect("room");
    let bare = mirrors.folder.path().join("have.git").display().to_string();
    for arguments in [
        &["-C", "source", "init", "--quiet"][..],
        &["-C", "source", "add", "."],
        &["-C", "source", "commit", "--quiet", "--message", "x"],
        &["clone", "--quiet", "--bare", "source", &bare],
        &["-C", &bare, "update-server-info"],
    ] {
        let (is_done, told) = git(arguments);
        assert!(is_done, "{arguments:?}: {told}");
    }
    let (is_done, told) = git(&["clone", &mirrors.url("have.git"), "got"]);
    assert!(is_done && work.path().join("got/file").exists(), "{told}");
    let (is_done, told) = git(&["clone", &mirrors.url("havenot.git"), "not"]);
    assert!(!is_done && told.contains("not found"), "{told}");
}
