//! Private PostgreSQL servers, one for each test binary unless a test wants its own: with their own data directory, a Unix
//! socket and no network. `PG_CONFIG` names the installation, `TOMBSTONE_SCRATCH` a directory with a short path, and
//! `TOMBSTONE_RUN_AS` the user to run them as, because PostgreSQL refuses to run as root.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::{Client, Config, NoTls};

const SUPERUSER: &str = "postgres";
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";

/// Tests run at once share a server. Weak, because statics are never dropped and the server must be.
static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

pub struct Server {
    /// Where the server's programs are.
    bin: PathBuf,
    /// Where its libraries are.
    lib: PathBuf,
    /// Data, log and socket, all in one directory that goes with the server.
    dir: PathBuf,
    run_as: Option<String>,
}

impl Server {
    pub fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::private("")?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// A server of a test's own, to be killed or followed; with more lines for its postgresql.conf.
    pub fn private(settings: &str) -> Result<Self> {
        let server = Self::not_yet_started()?;
        server.init()?;
        server.configure(settings)?;
        server.start()?;
        Ok(server)
    }

    /// A streaming replica of this server.
    pub fn standby(&self) -> Result<Self> {
        let standby = Self::not_yet_started()?;
        run(self
            .owner_command(self.bin.join("pg_basebackup"))
            .arg("-h")
            .arg(&self.dir)
            .args(["-U", SUPERUSER, "--checkpoint=fast", "--no-sync", "-D"])
            .arg(&standby.dir))?;
        // The other server's socket is beside its data.
        standby.remove(SOCKET_LOCK)?;
        fs::write(standby.dir.join("standby.signal"), "")?;
        standby.configure(&format!("primary_conninfo = '{}'", self.conninfo("postgres")))?;
        standby.start()?;
        Ok(standby)
    }

    fn not_yet_started() -> Result<Self> {
        let run_as = env::var("TOMBSTONE_RUN_AS").ok().filter(|user| !user.is_empty());
        Ok(Self { bin: installed("--bindir")?, lib: installed("--libdir")?, dir: new_directory(run_as.as_deref())?, run_as })
    }

    /// Also after it was killed.
    pub fn start(&self) -> Result<()> {
        self.pg_ctl(&["start", "-w", "-l", "log"]).with_context(|| format!("the server's log: {}", self.log()))
    }

    /// All its processes at once, as when the machine's memory runs out: nothing is written any more.
    pub fn kill(&self) -> Result<()> {
        let postmaster = self.postmaster()?;
        // Stopped, it has no more children.
        signal("STOP", &[postmaster])?;
        let mut processes = children(postmaster)?;
        processes.push(postmaster);
        signal("KILL", &processes)?;
        while processes.iter().any(|process| is_running(*process)) {
            thread::yield_now();
        }
        // Until somebody buries the dead, a postmaster's number looks as if it still ran.
        self.remove("postmaster.pid")?;
        self.remove(SOCKET_LOCK)
    }

    /// Stops it as an administrator does: `mode` is smart or fast.
    pub fn stop(&self, mode: &str) -> Result<()> {
        self.pg_ctl(&["stop", "-w", "-m", mode]).with_context(|| format!("the server's log: {}", self.log()))
    }

    /// Stops one of its processes in its tracks, until the server is killed.
    pub fn freeze(&self, process: i32) -> Result<()> {
        ensure!(children(self.postmaster()?)?.contains(&process), "{process} is no process of this server");
        signal("STOP", &[process])
    }

    /// One of its processes, as when the machine's memory runs out: Postgres ends all others, and recovers.
    pub fn kill_process(&self, process: i32) -> Result<()> {
        ensure!(children(self.postmaster()?)?.contains(&process), "{process} is no process of this server");
        signal("KILL", &[process])
    }

    /// A new connection after the loss of `lost`, once the server has recovered.
    pub async fn reconnect(&self, lost: Client, database: &str) -> Result<Client> {
        while !lost.is_closed() {
            tokio::task::yield_now().await;
        }
        loop {
            match self.connect(database).await {
                Ok(client) => return Ok(client),
                // It is recovering; a postmaster that has ended will not come back.
                Err(error) => ensure!(is_running(self.postmaster()?), "the server has ended: {error:#}"),
            }
        }
    }

    fn remove(&self, file: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    fn postmaster(&self) -> Result<i32> {
        let path = self.dir.join("postmaster.pid");
        let file = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(file.lines().next().unwrap_or_default().parse()?)
    }

    /// A new database with the extension, and a connection to it.
    pub async fn database(&self, name: &str) -> Result<Client> {
        let client = self.empty_database(name).await?;
        client.batch_execute("CREATE EXTENSION pg_tombstone").await?;
        Ok(client)
    }

    pub async fn empty_database(&self, name: &str) -> Result<Client> {
        let administrator = self.connect("postgres").await?;
        administrator.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        self.connect(name).await
    }

    pub async fn connect(&self, database: &str) -> Result<Client> {
        self.connect_as(SUPERUSER, database).await
    }

    pub async fn connect_as(&self, user: &str, database: &str) -> Result<Client> {
        let connected = self.config(database).user(user).connect(NoTls).await;
        let (client, connection) = connected.with_context(|| format!("connecting to {database} as {user}"))?;
        // When the connection breaks, the client's next call says so.
        tokio::spawn(connection);
        Ok(client)
    }

    /// How to reach a database of this server.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.dir).user(SUPERUSER).dbname(database);
        config
    }

    /// A client program of this installation, such as pg_dump, pointed at this server.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("PGHOST", &self.dir).env("PGUSER", SUPERUSER);
        command
    }

    /// The same in the words of libpq: for a subscription, a standby, a client in another language.
    pub fn conninfo(&self, database: &str) -> String {
        format!("host={} user={SUPERUSER} dbname={database}", self.dir.display())
    }

    fn init(&self) -> Result<()> {
        run(self.owner_command(self.bin.join("initdb")).arg("-D").arg(&self.dir).args([
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]))?;
        Ok(())
    }

    /// As an installation would be, but for durability, as these tests never lose power; with room for the workers of all
    /// databases that tests make, and without relays unless a test is about them.
    fn configure(&self, settings: &str) -> Result<()> {
        let path = self.dir.join("postgresql.conf");
        let mut config = OpenOptions::new().append(true).open(&path).with_context(|| format!("opening {}", path.display()))?;
        write!(
            config,
            "listen_addresses = ''\n\
             unix_socket_directories = '{}'\n\
             shared_preload_libraries = 'pg_tombstone'\n\
             tombstone.relay = off\n\
             max_prepared_transactions = 10\n\
             max_worker_processes = 64\n\
             wal_level = logical\n\
             fsync = off\n\
             tombstone.relay = off\n\
             {settings}\n",
            self.dir.display()
        )?;
        Ok(())
    }

    fn pg_ctl(&self, arguments: &[&str]) -> Result<()> {
        run(self.owner_command(self.bin.join("pg_ctl")).arg("-D").arg(&self.dir).args(arguments))?;
        Ok(())
    }

    fn owner_command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = command_as(self.run_as.as_deref(), program.as_ref());
        // The test's own working directory may be closed to that user. Modules such as postgres_fdw want this server's libpq, which
        // not every installation tells them to find.
        command.current_dir(&self.dir).env("LD_LIBRARY_PATH", &self.lib);
        command
    }

    /// What the server has had to say so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Absent where starting failed.
        if self.dir.join("postmaster.pid").exists()
            && let Err(error) = self.pg_ctl(&["stop", "-w", "-m", "immediate"])
        {
            eprintln!("a server stays behind in {}: {error:#}", self.dir.display());
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays behind: {error}", self.dir.display());
        }
    }
}

/// The processes that `parent` has started.
fn children(parent: i32) -> Result<Vec<i32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        children.extend(process.filter(|process| stat(*process).is_some_and(|(_, its_parent)| its_parent == parent)));
    }
    Ok(children)
}

/// What is dead and not yet buried does not run.
fn is_running(process: i32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z")
}

/// A process's state and its parent.
fn stat(process: i32) -> Option<(String, i32)> {
    let fields = stat_fields(process)?;
    Some((fields.first()?.to_string(), fields.get(1)?.parse().ok()?))
}

/// What follows its name in /proc/…/stat.
fn stat_fields(process: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_string).collect())
}

/// How long a process has kept a processor busy, in the hundredths of a second that Linux counts in.
pub fn cpu_time(process: i32) -> Option<u64> {
    let fields = stat_fields(process)?;
    let ticks = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

fn signal(signal: &str, processes: &[i32]) -> Result<()> {
    run(Command::new("kill").arg(format!("-{signal}")).args(processes.iter().map(i32::to_string)))?;
    Ok(())
}

/// A directory of the installation.
fn installed(directory: &str) -> Result<PathBuf> {
    let pg_config = required("PG_CONFIG", "the absolute path of the pg_config to test with")?;
    let output = run(Command::new(pg_config).arg(directory))?;
    Ok(PathBuf::from(line(&output)?))
}

/// Made by the user who is to own it, under a name nobody else has: several test binaries may run at once.
fn new_directory(owner: Option<&str>) -> Result<PathBuf> {
    let scratch = required("TOMBSTONE_SCRATCH", "a directory for data and sockets, with a short path")?;
    let template = Path::new(&scratch).join("client.XXXXXX");
    let output = run(command_as(owner, Path::new("mktemp")).arg("-d").arg(template).current_dir("/"))?;
    Ok(PathBuf::from(line(&output)?))
}

fn required(variable: &str, meaning: &str) -> Result<String> {
    match env::var(variable) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => bail!("set {variable}: {meaning}"),
    }
}

fn command_as(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else {
        return Command::new(program);
    };
    let mut command = Command::new("runuser");
    command.args(["-u", user, "--"]).arg(program);
    command
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

fn line(output: &Output) -> Result<&str> {
    Ok(std::str::from_utf8(&output.stdout)?.trim_end())
}
