"""A stand-in for a server of Weights & Biases, on loopback: what wandb 0.31 asks while it tracks and uploads runs."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = '0123456789abcdef' * 2 + '01234567'  # the form of a key


class StandIn:
    """Answers GraphQL, takes file streams and uploads, and keeps everything that it was sent.

    Attributes:
        runs: By id: ``files`` (lines by file name), ``config``, ``uploads`` (bytes by file name), ``exit``, and what
            the run was created with.
        artifacts: By id: the input of its creation, ``files`` (bytes by name, ``manifest`` among them), ``committed``,
            and the runs it was ``made_by`` and ``used_by``.
        received: All requests, as text, for finding what should not have been sent.
        broken: Answer everything but the first look with an error.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.alerts: list[dict[str, Any]] = []
        self.operations: list[str] = []
        self.received: list[str] = []
        self.broken = False
        self._lock = threading.Lock()
        stand_in = self

        class Handler(_Handler):
            def answer(self, body: bytes) -> dict:
                with stand_in._lock:
                    return stand_in._answer(self.command, self.path, dict(self.headers), body)

        self._server = _Server(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> 'StandIn':
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """Return the variables that send wandb here."""
        return {'WANDB_BASE_URL': self.url, 'WANDB_API_KEY': KEY, 'WANDB_MODE': 'online'}

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """Return a run's rows."""
        return [json.loads(line) for line in self.runs[run_id]['files'].get('wandb-history.jsonl', [])]

    def summary(self, run_id: str) -> dict[str, Any]:
        """Return a run's summary."""
        return json.loads(self.runs[run_id]['files']['wandb-summary.json'][-1])

    def config(self, run_id: str) -> dict[str, Any]:
        """Return a run's config."""
        return {key: item['value'] for key, item in json.loads(self.runs[run_id]['config']).items()}

    def _answer(self, command: str, path: str, headers: dict, body: bytes) -> dict:
        shown = {name: value for name, value in headers.items() if name != 'Authorization'}  # which holds the key
        self.received.append(f'{command} {path} {shown} {body.decode("utf-8", "replace")}')
        if command == 'HEAD':
            return {}
        if self.broken:
            raise ConnectionError
        if path == '/graphql':
            asked = json.loads(body)
            self.operations.append(asked['operationName'])
            answer = getattr(self, '_' + asked['operationName'], None)
            if answer is None:
                return {'errors': [{'message': f'the stand-in knows no {asked["operationName"]}'}]}
            return {'data': answer(asked.get('variables') or {})}
        parts = path.strip('/').split('/')
        if parts[-1] == 'file_stream':
            run = self.runs[parts[-2]]
            sent = json.loads(body)
            for name, chunk in (sent.get('files') or {}).items():
                lines = run['files'].setdefault(name, [])
                lines[chunk['offset']:chunk['offset'] + len(chunk['content'])] = chunk['content']
            if sent.get('complete'):
                run['exit'] = sent.get('exitcode')
                run['preempting'] = run.get('preempting') or sent.get('preempting')
        elif parts[0] == 'upload':
            kept = self.runs[parts[2]]['uploads'] if parts[1] == 'run' else self.artifacts[parts[2]]['files']
            kept['/'.join(parts[3:])] = body
        return {}

    @staticmethod
    def _project(variables: dict) -> dict:
        name = variables.get('project') or 'none'
        return {'id': 'project', 'name': name, 'entity': {'id': 'entity', 'name': 'someone'}}

    def _ServerFeaturesQuery(self, variables: dict) -> dict:
        return {'serverInfo': {'features': []}}

    def _Viewer(self, variables: dict) -> dict:
        return {'viewer': {'id': 'user', 'entity': 'someone', 'username': 'someone', 'email': None, 'flags': '{}',
                           'teams': {'edges': []}}}

    def _RunResumeStatus(self, variables: dict) -> dict:
        run = self.runs.get(variables['name'])
        if run is None:
            return {'model': {**self._project(variables), 'bucket': None}}
        started = json.loads(run['config']).get('_wandb', {}).get('value', {}).get('t')  # else it was only created
        history, events = (run['files'].get(f'wandb-{name}.jsonl', []) for name in ('history', 'events'))
        return {'model': {**self._project(variables), 'bucket': {
            'id': variables['name'], 'name': variables['name'], 'displayName': run['displayName'],
            'summaryMetrics': (run['files'].get('wandb-summary.json') or ['{}'])[-1], 'logLineCount': 0,
            'historyLineCount': len(history), 'eventsLineCount': len(events), 'historyTail': json.dumps(history[-1:]),
            'eventsTail': json.dumps(events[-1:]), 'config': run['config'], 'tags': [], 'notes': None,
            'wandbConfig': json.dumps({'t': started} if started else {})}}}

    def _UpsertBucket(self, variables: dict) -> dict:
        new = variables['name'] not in self.runs
        run = self.runs.setdefault(variables['name'], {'files': {}, 'uploads': {}, 'config': '{}', 'exit': None})
        run.update({key: value for key, value in variables.items() if value is not None or key not in run})
        return {'upsertBucket': {'inserted': new, 'bucket': {
            'id': variables['name'], 'name': variables['name'], 'displayName': run['displayName'], 'description': None,
            'config': run['config'], 'sweepName': None, 'project': self._project(variables),
            'historyLineCount': len(run['files'].get('wandb-history.jsonl', []))}}}

    def _CreateRunFiles(self, variables: dict) -> dict:
        return {'createRunFiles': {'runID': variables['run'], 'uploadHeaders': [], 'files': [
            {'name': name, 'uploadUrl': f'{self.url}/upload/run/{variables["run"]}/{name}'}
            for name in variables['files']]}}

    def _CreateArtifact(self, variables: dict) -> dict:
        made = variables['input']
        same = next((name for name, artifact in self.artifacts.items() if all(artifact[key] == made[key] for key in (
            'digest', 'artifactCollectionName', 'artifactTypeName'))), None)  # enableDigestDeduplication
        name = same or f'artifact{len(self.artifacts)}'
        artifact = self.artifacts.setdefault(
            name, {**made, 'files': {}, 'committed': False, 'used_by': [], 'made_by': []})
        if made['runName']:
            artifact['made_by'].append(made['runName'])
        return {'createArtifact': {'artifact': {
            'id': name, 'state': 'COMMITTED' if artifact['committed'] else 'PENDING',
            'artifactSequence': {'id': made['artifactCollectionName'], 'latestArtifact': None}}}}

    def _CreateArtifactManifest(self, variables: dict) -> dict:
        name = variables['artifactID']
        return {'createArtifactManifest': {'artifactManifest': {'id': f'manifest-{name}', 'file': {
            'id': 'file', 'name': variables['name'], 'displayName': variables['name'], 'uploadHeaders': [],
            'uploadUrl': f'{self.url}/upload/artifact/{name}/manifest' if variables['includeUpload'] else None}}}}

    def _UpdateArtifactManifest(self, variables: dict) -> dict:
        name = variables['artifactManifestID']
        return {'updateArtifactManifest': {'artifactManifest': {'id': name, 'file': {
            'id': 'file', 'name': 'manifest', 'displayName': 'manifest', 'uploadHeaders': [],
            'uploadUrl': f'{self.url}/upload/artifact/{name.removeprefix("manifest-")}/manifest'}}}}

    def _CreateArtifactFiles(self, variables: dict) -> dict:
        return {'createArtifactFiles': {'files': {'edges': [{'node': {
            'id': file['name'], 'name': file['name'], 'displayName': file['name'], 'storagePath': file['name'],
            'uploadUrl': f'{self.url}/upload/artifact/{file["artifactID"]}/{file["name"]}', 'uploadHeaders': [],
            'uploadMultipartUrls': None, 'artifact': {'id': file['artifactID']}}}
            for file in variables['input']['artifactFiles']]}}}

    def _CommitArtifact(self, variables: dict) -> dict:
        artifact = self.artifacts[variables['artifactID']]
        artifact['committed'] = True
        return {'commitArtifact': {'artifact': {'id': variables['artifactID'], 'digest': artifact['digest']}}}

    def _UseArtifact(self, variables: dict) -> dict:
        used = variables['input']
        self.artifacts[used['artifactID']]['used_by'].append(used['runName'])
        return {'useArtifact': {'artifact': {'id': used['artifactID']}}}

    def _ClientIDMapping(self, variables: dict) -> dict:
        found = next((name for name, artifact in self.artifacts.items()
                      if artifact['clientID'] == variables['clientID']), None)
        return {'clientIDMapping': {'serverID': found}}

    def _NotifyScriptableRunAlert(self, variables: dict) -> dict:
        self.alerts.append(variables)
        return {'notifyScriptableRunAlert': {'success': True}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients hang up without a word."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get('Transfer-Encoding') == 'chunked':
            body = b''
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        return gzip.decompress(body) if self.headers.get('Content-Encoding') == 'gzip' else body

    def _respond(self) -> None:
        try:
            status, answer = 200, json.dumps(self.answer(self._body())).encode()
        except ConnectionError:
            status, answer = 500, b'{}'
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = _respond
