// The package lies in the folder package, where `build.sh site` puts it.
import { Model } from './package/js/index.js';

const $ = (id) => document.getElementById(id);
let model = null;
let chat = null;
let answering = null;

function say(role, text) {
    const line = document.createElement('p');
    line.className = role;
    line.textContent = text;
    $('log').append(line);
    $('log').scrollTop = $('log').scrollHeight;
    return line;
}

const setting = (name) => document.querySelector(`[name=${name}]`).value.trim();
const number = (name) => (setting(name) === '' ? undefined : Number(setting(name)));

function begin() {
    const sampling = {};
    for (const name of ['temperature', 'topP', 'repetitionPenalty']) {
        if (number(name) !== undefined) sampling[name] = number(name);
    }
    chat = model.chat({ system: setting('system') || undefined, maxTokens: number('maxTokens'), sampling });
    $('log').replaceChildren();
}

async function open(source, name) {
    answering?.abort();
    model?.dispose();
    model = null;
    for (const id of ['text', 'send', 'reset']) $(id).disabled = true;
    $('progress').hidden = false;
    try {
        model = await Model.open(source, {
            context: number('context'),
            onProgress: ({ loaded, total, from }) => {
                $('progress').value = loaded / total;
                $('status').textContent = `${name}: ${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB (${from})`;
            },
            onNotice: (notice) => say('notice', notice),
        });
        const { context, kernels } = model.info;
        $('status').textContent = `${name}: ready; context of ${context} tokens, kernels ${kernels}`;
        begin();
        for (const id of ['text', 'send', 'reset']) $(id).disabled = false;
        $('text').focus();
    } catch (error) {
        $('status').textContent = `${name} was not opened: ${error.message}`;
    } finally {
        $('progress').hidden = true;
    }
}

async function send(text) {
    say('user', text);
    const line = say('model', '');
    answering = new AbortController();
    $('stop').hidden = false;
    $('send').disabled = true;
    try {
        for await (const piece of chat.send(text, { signal: answering.signal })) {
            line.textContent += piece;
            $('log').scrollTop = $('log').scrollHeight;
        }
    } catch (error) {
        if (error.name !== 'AbortError') say('notice', error.message);
    }
    const { reply } = chat;
    if (reply) {
        const speed = (tokens, seconds) => (seconds > 0 ? (tokens / seconds).toFixed(1) : '-');
        $('figures').textContent =
            `prompt ${reply.promptTokens} tokens, ${speed(reply.promptTokens, reply.promptSeconds)} tokens/s; ` +
            `answer ${reply.tokens} tokens, ${speed(reply.tokens, reply.seconds)} tokens/s`;
    }
    answering = null;
    $('stop').hidden = true;
    $('send').disabled = !model;
    $('text').focus();
}

$('source').addEventListener('submit', (event) => {
    event.preventDefault();
    open($('address').value, $('address').value.split('/').pop());
});

function openFile(file) {
    if (/\.gguf$/i.test(file.name)) {
        $('status').textContent = `${file.name} is a GGUF file: run \`thimble convert ${file.name} model.thimble\` first`;
        return;
    }
    open(file, file.name);
}
$('file').addEventListener('change', () => $('file').files[0] && openFile($('file').files[0]));
addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
});
addEventListener('dragleave', () => document.body.classList.remove('dropping'));
addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    const [file] = event.dataTransfer.files;
    if (file) openFile(file);
});

$('message').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = $('text').value.trim();
    if (!text || answering || !model) return;
    $('text').value = '';
    send(text);
});
$('text').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        $('message').requestSubmit();
    }
    if (event.key === 'Escape') answering?.abort();
});
$('stop').addEventListener('click', () => answering?.abort());
$('reset').addEventListener('click', () => {
    answering?.abort();
    begin();
});

navigator.serviceWorker?.register('service-worker.js', { type: 'module' }).catch(() => {
    say('notice', 'the page could not be kept: it does not open without a network');
});
