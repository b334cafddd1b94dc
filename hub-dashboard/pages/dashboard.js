// The organiser's live page. It keeps nothing: every figure is asked of the node anew. All text goes in as text.

const element = (id) => document.getElementById(id);
let currency = '';

const decimals = (code) => {
  try {
    return new Intl.NumberFormat('en', { style: 'currency', currency: code }).resolvedOptions().maximumFractionDigits;
  } catch {
    return 2;
  }
};

const money = (minor, code = currency) => {
  const digits = decimals(code);
  const value = (Number(minor) / 10 ** digits).toFixed(digits);
  return code ? `${value} ${code}` : value;
};

// Minutes, in UTC: a market and its organiser may be in different places.
const moment = (milliseconds) => new Date(milliseconds).toISOString().slice(0, 16).replace('T', ' ');

const row = (...cells) => {
  const line = document.createElement('tr');
  for (const cell of cells) {
    const { text, kind } = typeof cell === 'object' ? cell : { text: cell, kind: '' };
    const field = document.createElement('td');
    field.textContent = text;
    if (kind) field.className = kind;
    line.append(field);
  }
  return line;
};

const figures = (pairs) => pairs.flatMap(([name, value]) => {
  const term = document.createElement('dt');
  const detail = document.createElement('dd');
  const group = document.createElement('div');
  term.textContent = name;
  detail.textContent = value;
  group.append(term, detail);
  return [group];
});

const read = async (path) => {
  const answer = await fetch(path, { headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
};

const showStatus = (status, members, ledger) => {
  currency = status.currency;
  element('market').textContent = status.market_name || 'Stallmesh';
  const validity = status.valid_until
    ? ` · certificate ${status.time > status.valid_until ? 'expired on' : 'valid until'} ${moment(status.valid_until)} UTC`
    : '';
  element('node').textContent = `${status.role} ${status.name} · ${status.device.slice(0, 8)}${validity}`;
  element('till').hidden = status.role !== 'stall';
  document.title = `${status.market_name || 'Stallmesh'} · ${status.role}`;
  element('notices').replaceChildren(...status.notices.map((notice) => {
    const item = document.createElement('li');
    item.textContent = notice;
    return item;
  }));
  const pairs = ledger
    ? [['Sales received', ledger.received], ['Posted', ledger.posted], ['In suspense', ledger.suspense.length], ['Settlements', ledger.settlements]]
    : [['Sales here', status.sales.recorded], ['Copied', status.sales.copied], ['At the hub', status.sales.at_the_hub], ['Settled', status.sales.settled]];
  pairs.push(['Links', status.peers.length], ['Checkpoint', status.checkpoint], ['Carried for others', status.custody.held_entries]);
  element('figures').replaceChildren(...figures(pairs));
  element('no-links').hidden = status.peers.length > 0;
  element('links-table').hidden = status.peers.length === 0;
  const names = new Map(members.map((member) => [member.device, member.name]));
  element('links').replaceChildren(...status.peers.map((peer) => row(
    peer.stall || names.get(peer.device) || peer.device.slice(0, 8), peer.link, peer.uplink ? 'yes' : 'no', { text: peer.missing, kind: 'number' },
  )));
};

const showMembers = (members) => {
  element('members').replaceChildren(...members.map((member) => row(
    member.name, member.role, member.stall,
    { text: [member.state, ...member.alarms].join(', '), kind: member.state === 'valid' && !member.alarms.length ? 'good' : 'bad' },
    { text: moment(member.not_after), kind: 'moment' },
    member.linked ? 'up' : '–',
  )));
};

const showLedger = (ledger) => {
  element('ledger').hidden = !ledger;
  if (!ledger) return;
  const balanced = ledger.sums.every(([, sum]) => sum === 0);
  element('sums').textContent = balanced ? 'All accounts sum to zero.' : `OUT OF BALANCE: ${ledger.sums.map(([code, sum]) => money(sum, code)).join(', ')}`;
  element('sums').className = balanced ? 'good' : 'bad';
  element('balances').replaceChildren(...ledger.balances.map(([account, code, sum]) => row(account, { text: money(sum, code), kind: 'number' })));
  element('no-suspense').hidden = ledger.suspense.length > 0;
  element('suspense-table').hidden = ledger.suspense.length === 0;
  element('suspense').replaceChildren(...ledger.suspense.map((item) => row(item.reason, item.stall, { text: money(item.amount), kind: 'number' })));
};

let running = false;
let again = false;

const refresh = async () => {
  if (running) { again = true; return; }
  running = true;
  try {
    const [status, members] = await Promise.all([read('/v1/status'), read('/v1/members')]);
    const ledger = status.role === 'hub' ? await read('/v1/ledger') : null;
    showStatus(status, members, ledger);
    showMembers(members);
    showLedger(ledger);
    element('connection').textContent = 'live';
    element('connection').className = '';
  } catch {
    element('connection').textContent = 'the node does not answer';
    element('connection').className = 'lost';
  }
  running = false;
  if (again) { again = false; setTimeout(refresh, 250); }
};

const events = new EventSource('/v1/events');
events.onmessage = refresh;
events.addEventListener('missed', refresh);
setInterval(refresh, 5000);
refresh();
