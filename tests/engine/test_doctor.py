"""The doctor names what is there."""

from projects.engine.doctor import examine


def test_this_machine_is_fit():
    findings = {finding.subject: finding for finding in examine()}
    assert not [str(f) for f in findings.values() if f.status == 'missing']
    assert findings['gloo'].status == 'ok' and findings['torch'].text.startswith('2.')
    assert str(findings['python']).startswith('ok      python')
