package ai.thimble.app

import ai.thimble.app.ui.FormsScreen
import ai.thimble.app.ui.FormsExits
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.ClipboardManager
import android.content.Intent
import android.provider.CalendarContract
import android.provider.ContactsContract
import android.view.View
import android.widget.Toast
import ai.thimble.app.logic.FormKind

/** Forms that the model fills in from a text. */
class FormsActivity : ScreenActivity(), FormsExits {
    private lateinit var screen: FormsScreen

    override fun build(): View {
        screen = FormsScreen(this, app.forms, this)
        // A text that another app shares.
        intent.getStringExtra(Intent.EXTRA_TEXT)?.let(screen::offer)
        return screen.root
    }

    override suspend fun follow() {
        app.forms.state.collect(screen::render)
    }

    override fun back() = finish()

    /** Hands the fields to the system's calendar or contacts, where the person looks at them once more. */
    override fun save(kind: FormKind, fields: List<String>) {
        val intent = when (kind) {
            FormKind.EVENT -> event(fields)
            FormKind.CONTACT -> contact(fields)
        }
        try {
            startActivity(intent)
        } catch (_: ActivityNotFoundException) {
            Toast.makeText(this, R.string.no_app, Toast.LENGTH_LONG).show()
        }
    }

    private fun event(fields: List<String>): Intent {
        val (title, date, time, place) = fields
        return Intent(Intent.ACTION_INSERT, CalendarContract.Events.CONTENT_URI)
            .putExtra(CalendarContract.Events.TITLE, title)
            .putExtra(CalendarContract.Events.EVENT_LOCATION, place)
            // As it is in the text, such as "next Friday": the person sets the calendar's own fields by it.
            .putExtra(CalendarContract.Events.DESCRIPTION, "$date $time".trim())
    }

    private fun contact(fields: List<String>): Intent {
        val (name, phone, email, company) = fields
        return Intent(Intent.ACTION_INSERT, ContactsContract.Contacts.CONTENT_URI)
            .putExtra(ContactsContract.Intents.Insert.NAME, name)
            .putExtra(ContactsContract.Intents.Insert.PHONE, phone)
            .putExtra(ContactsContract.Intents.Insert.EMAIL, email)
            .putExtra(ContactsContract.Intents.Insert.COMPANY, company)
    }

    override fun copy(text: String) {
        getSystemService(ClipboardManager::class.java)?.setPrimaryClip(ClipData.newPlainText(null, text))
        Toast.makeText(this, R.string.copied, Toast.LENGTH_SHORT).show()
    }
}
